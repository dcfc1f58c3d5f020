"""The table of kinds: every row's extraction opens, and no row's specification ever changes unnoticed."""

from types import SimpleNamespace

import pytest

from lumina_ray.fingerprint import KINDS, Specification
from lumina_ray.fingerprint.extraction import make_extraction
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.statistics import no_statistics
from lumina_ray.vocabulary import CHANNELS
from tests.tiny_model import tiny_music_model

# Stores and reports name these hashes, and a changed hash makes all of them unusable. So change a hash only together
# with `ALGORITHM_VERSION`, or with the weights or the music statistics of the bundled nano.
NANO = {
    "influence": "081fc343ec7ee94b94fdb26413862a8f04cee0997f67d8bc81b3ad02c5a1cffd",
    "stats": "add9ec9f658e6ea8b84e90f6fd4acf7a5f029cf351f6d60174a36f2df7305ad9",
    "jl": "60c82e49b05f10d1a2d555ed1e7c236fdbbdfbb276412cc26d6f7c3a5949b2cd",
    "head-gradient": "d0c2220fdd1b7842ac1779915f0cefa62470e50850b33675189dd715fe06bdf3",
    "gradient": "411eb5f2bed2d8257c77e36652bc2c425c40607231252cb43865f5cbb018e69e",
    "logra": "e0bb19d2cf6997a12462edce4d7649cbc14c34eceb8c43e19e6a693fc86ef4cc",
    "factgrass": "deab09913d595c38472c7d3c3bc5e2a662c9e4287f0f00dbb5552dc298e503ce",
    "tokens": "c80ba388ef51dec47f7cf5d9b4a42701d64320168b22775f6031d675f69d29bf",
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
    "tokens": "43ca86e9477cac6817387c06d3898cbaddaa4550e6c0bebcaec21bc04ea10fff",
}


@pytest.fixture(scope="module")
def nano() -> MusicModel:
    return open_model("nano", "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_nanos_specifications_are_those_that_stores_name(nano: MusicModel, kind: str) -> None:
    assert Specification.for_model(nano, kind).sha256 == NANO[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_models_specifications_are_those_that_stores_name(kind: str) -> None:
    large = SimpleNamespace(
        weights_sha256="a" * 64,
        n_layers=48,
        n_codebooks=4,
        codebook_size=2048,
        statistics=no_statistics(4, 2048),
    )
    assert Specification.for_model(large, kind).sha256 == LARGE[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [CHANNELS, ("P",), ("M",)])
def test_every_extraction_opens(kind: str, channels: tuple) -> None:
    model = tiny_music_model(n_layers=16)
    extraction = make_extraction(model, Specification.for_model(model, kind, channels))
    assert extraction.weights
    assert all(callable(getattr(extraction, name)) for name in ("capture", "of_chunks", "of_song", "vectors"))


def test_only_kinds_that_say_so_depend_on_music_statistics(nano: MusicModel) -> None:
    dependent = {kind for kind in KINDS if Specification.for_model(nano, kind).statistics_sha256}
    assert dependent == {kind for kind in KINDS if find_kind(kind).uses_music_statistics} == {"influence"}
