"""The table of kinds: every row's extraction opens, and no row's specification ever changes unnoticed."""

from types import SimpleNamespace

import pytest
import torch

from lumina_ray.fingerprint import KINDS, Specification
from lumina_ray.fingerprint.extraction import make_extraction
from lumina_ray.fingerprint.kinds import KINDS_OF, find_kind
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.companion import Companions
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.statistics import no_statistics
from lumina_ray.vocabulary import CHANNELS, Draws, Representation
from tests.kinds import BY_MODEL
from tests.tiny_model import tiny_music_model

# Embeddings by weights that come with the software; those of others follow from their weights.
AT_HAND = (*BY_MODEL, "codec-activations", "embedding:musicnn")

# Stores and reports name these hashes, and a changed hash makes all of them unusable. So change a hash only together
# with `ALGORITHM_VERSION`, or with the weights or the music statistics of the bundled nano.
NANO = {
    "influence": "59846c30e46fa51826da6dfe2c4d7a324f810a65b45507658907109508ac473e",
    "stats": "9bfa8f5c3a66abb763ad47c20039afad5cdcc7dea3c7c42f0b6730e059b671fd",
    "jl": "55c34428cea71d33a5e8f175aea30788cc4a7bdb29b1c540880e5f1639fcccbf",
    "head-gradient": "436587204d75d484f4a3136faac4a7637dcbc8ece58334b3b2eeb772e5e87e53",
    "gradient": "6093c93fa389aee8933fbaa5148f4713c22b71d79f002ad1d628357523d93ea3",
    "logra": "240741b845ab8bf8df3b9ded864867b66f89ddd3fe2b05a199d64abce6e2dc76",
    "factgrass": "da9b56ab1b5047102574348f3353775ba10d7c064f9c96695eef317d48f1f84c",
    "fisher": "4081117a82664f0458a0fc1c0e1fac817b46a64a4e87bb8d0e2fd87c8dfc0878",
    "companion": "25c3ce6305b3040b2a19bb77f91e52e3d3f801de016c3b0f2fcf274748573e59",
    "tokens": "d88d75d28032917add2258e891fd8cb92154fe41454423b662a4f24c88ff24ee",
    "codec-activations": "0eb4946af73ad532e5bf669e0f90f10f20615afd6800d37260fc5cad695362a6",
    "embedding:musicnn": "e966501b9a699008990dc94a5bdea49036ac77c435c8640e1426688c1ffa9972",
}
# A model of MusicGen-large's sizes, whose 3 × 2048 codes of channel M are projected, which nano's are not.
LARGE = {
    "influence": "8e1e99ce2ebb40159063c91eedce8dc3d44040a20182fcf9ee2e2300c87bcd5f",
    "stats": "81de1c2ddf5f8525829fdf1d2fb50a21aeb05a4443a70200543c83dbbbd1e263",
    "jl": "bf95f8a0bd445c63793a410fbbfade1ddd8118452483bde45df965b90fc264f0",
    "head-gradient": "26c31e4eddec198e44f69c69d81a5f8cfaa8b6ab4b4723c1a9d687d0a3c72e6b",
    "gradient": "a2f84ed95bf9a96dbf99de5900dcad2ad128cc0404cc92d5f8ae95f510b10a4e",
    "logra": "2fb66dee6b038db9226acd39f92895e2c3a2e41e50e2ed36cebf0ff5224c2826",
    "factgrass": "176a5f500cea180cdafbe0d9a01420f262cd2f0f3925e8d82d44dc0c07fdfc30",
    "fisher": "b62a9c3181b5780f0b0a3fb8f3dc3575c2163dfffb3eef260ce0491f519bd7e0",
    "companion": "1a7879cb751a8782fd2c098f48d907a157681baac90142e9aff42d8560d43be4",
    "tokens": "43ca86e9477cac6817387c06d3898cbaddaa4550e6c0bebcaec21bc04ea10fff",
    "codec-activations": "def6acbbe217d708943162dbfee94416ebb72c400872b25b1b6aab5c31e08cd9",
    "embedding:musicnn": "9bc36ce4c38afab2a6f4ff1dcc6eab03db743a6a106e79dfc96586ef331c3db0",
}

# A model of nano-dit's sizes and draws.
LATENTS = {
    "head-gradient": "27e037c0f7871bb79832e06d5df64fae0da7d7cacde81d0f3ad20117793a010a",
    "stats": "ee08419dad3a8a66c0a6394ed4f75fdae48063a0149303713ac6f6eb9924d83e",
    "jl": "0d3bb50d6745e7855dfcc4ebe526365af334ea855388d64970a0be10d4be820a",
    "gradient": "3bd204b19fd0e1d6f1a33b20644705d2b9f1e7164beeb96cefa6957caf368088",
    "logra": "2b9849f10f9835f5914107a6a023364906199aa964e71b03b8d6c90e79709bc8",
    "factgrass": "f879194464bdc4be241a70459ca2a96d8a8a22fc2e8cf77ff255683a4496893c",
    "fisher": "8751b2ddc2178e18026310be1bfc70c66e44279569ef2ffd87d180759ce34a07",
    "embedding:musicnn": "5e4330f9bae377634d2a987ee8aef923af2b74b76196cfcb873e2fdc8e299f2f",
}


@pytest.fixture(scope="module")
def nano() -> MusicModel:
    model = open_model("nano", "cpu")
    # It comes with neither: whoever needs one measures it.
    model.fisher = Fisher({}, model.weights_sha256, "0" * 64, 0, 0)
    model.companions = Companions(("nano-early",), ("0" * 64,), model.weights_sha256, {}, {})
    return model


@pytest.mark.parametrize("kind", AT_HAND)
def test_nanos_specifications_are_those_that_stores_name(nano: MusicModel, kind: str) -> None:
    assert Specification.for_model(nano, kind).sha256 == NANO[kind]


@pytest.mark.parametrize("kind", AT_HAND)
def test_a_large_models_specifications_are_those_that_stores_name(kind: str) -> None:
    large = SimpleNamespace(
        weights_sha256="a" * 64,
        n_layers=48,
        device=torch.device("cpu"),
        representation=Representation("codes", 4, 2048),
        draws=None,
        statistics=no_statistics(4, 2048),
        fisher=Fisher({}, "a" * 64, "0" * 64, 0, 0),
        companions=Companions(("early",), ("0" * 64,), "a" * 64, {}, {}),
    )
    assert Specification.for_model(large, kind).sha256 == LARGE[kind]


@pytest.mark.parametrize("kind", [*(kind for kind in KINDS_OF["latents"] if kind in BY_MODEL), "embedding:musicnn"])
def test_specifications_of_latents_are_those_that_stores_name(kind: str) -> None:
    model = SimpleNamespace(
        weights_sha256="a" * 64,
        n_layers=8,
        device=torch.device("cpu"),
        representation=Representation("latents", 64),
        draws=Draws(48, 422024),
        fisher=Fisher({}, "a" * 64, "0" * 64, 0, 0),
    )
    assert Specification.for_model(model, kind).sha256 == LATENTS[kind]


@pytest.mark.parametrize("kind", AT_HAND)
@pytest.mark.parametrize("channels", [CHANNELS, ("P",), ("M",)])
def test_every_extraction_opens(kind: str, channels: tuple) -> None:
    model = tiny_music_model(n_layers=16)
    extraction = make_extraction(model, Specification.for_model(model, kind, channels))
    assert extraction.weights
    assert all(callable(getattr(extraction, name)) for name in ("capture", "of_chunks", "of_song", "vectors"))


def test_only_kinds_that_say_so_depend_on_music_statistics(nano: MusicModel) -> None:
    dependent = {kind for kind in AT_HAND if Specification.for_model(nano, kind).statistics_sha256}
    assert {kind for kind in KINDS if find_kind(kind).uses_music_statistics} == {"influence"}
    assert {kind for kind in KINDS if find_kind(kind).uses_fisher} == {"fisher"}
    assert {kind for kind in KINDS if find_kind(kind).uses_companion} == {"companion"}
    assert dependent == {"influence", "fisher", "companion", "embedding:musicnn"}
