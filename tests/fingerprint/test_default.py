"""The kind of fingerprint that a model's catalog gets where nobody names one."""

import shutil
from pathlib import Path

import lumina_ray as lr
from lumina_ray.fingerprint.default import default_kind
from lumina_ray.model import find_model
from lumina_ray.model.companion import COMPANION_FILE, load_companions
from lumina_ray.model.files import weights_sha256
from tests.small_catalog import SmallCatalog


def test_a_model_with_companions_gets_their_kind_and_any_other_influence(tmp_path: Path) -> None:
    assert default_kind("nano") == "companion"
    assert default_kind("nano-early") == "influence"
    for name in ("facebook/not-at-hand", "audiocraft:folder", str(tmp_path / "nowhere")):
        assert default_kind(name) == "influence"
    shutil.copytree(find_model("nano"), tmp_path / "own")
    assert default_kind(str(tmp_path / "own")) == "companion"
    (tmp_path / "own" / COMPANION_FILE).unlink()
    assert default_kind(str(tmp_path / "own")) == "influence"


def test_nanos_companion_is_its_early_checkpoint() -> None:
    found = load_companions(find_model("nano"))
    assert found.names == ("nano-early",)
    assert found.companions_sha256 == (weights_sha256(find_model("nano-early")),)
    assert found.weights_sha256 == weights_sha256(find_model("nano"))


def test_the_front_door_takes_the_default(small_catalog: SmallCatalog) -> None:
    made = lr.open_model("nano").fingerprint(next(small_catalog.songs.iterdir()))
    assert made.specification.kind == "companion"
