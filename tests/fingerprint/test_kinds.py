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
    "influence": "08d42c605a60698146d399d4056c15dcae3387456549ca2d7d7a4edebcaebd69",
    "stats": "89a17c91e37082129d47f7df288e250f8822bf6bfb1687e82727c8337917bcb0",
    "jl": "73636aec3d60eed2fd9c202ddab5316220e9db6265af01d478e5774585e44dd4",
    "head-gradient": "e2efc4df5f0148130d1c6bad71577c6de7d863a1e162d1b9420ea60f0c4ce085",
    "gradient": "a1546b9e7cd648a4e98916780ec42a9027e0e1baee012f1298c5bfec4f36ece3",
    "logra": "20b74ba649c2e80caff6715e04752543f6e6b6d23a11ab926bd48c92ec49e7ea",
    "factgrass": "1264ca561aca0380047e13c8f8fcd6c9adccec2c289034bab29175507713ffe7",
    "tokens": "233acfa4a269ab16fc6f218ac20ec84f33ecb13148c4e7990f82c4936fe0e6ba",
}
# A model of MusicGen-large's sizes, whose 3 × 2048 codes of channel M are projected, which nano's are not.
LARGE = {
    "influence": "a88c8c1f183a8a81d595d56ef775498e299297a51e6031ceb3bd4b94f8f6cfa6",
    "stats": "ba2b7a82fa49a926d48413dfc99c063393d3f6931d83be23afb275d1915dce48",
    "jl": "0778308651300d6419805b8c1ed8808a1bcd679575c63206ea9a3f2f0bcc3938",
    "head-gradient": "b08165911273437ee1008f291f22a9a5f5f61ef0990d5de686413980dfb7fc78",
    "gradient": "62e9eb52796a1a5350489ebc131005c950995e7af0558ddb88dd35823712145e",
    "logra": "3cbdf18c984c860ee1b3df06c2c3994cebe65f8c1715090dbe1228361c247e32",
    "factgrass": "34fa98c566dab5f139bc972d81f279829ee08204dd730614ea407abe5a1638e9",
    "tokens": "0934a496d6e27c5acf527e4091ec4aedc4bd54783d3af100651b3612abac6c60",
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
