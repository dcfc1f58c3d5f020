"""The kind of fingerprint that a model's catalog gets where nobody names one."""

import shutil
from pathlib import Path

import lumina_ray as lr
from lumina_ray.fingerprint.default import default_kind, default_kind_of
from lumina_ray.fingerprint.kinds import DEFAULT_KIND, KINDS_OF
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.model import find_model, open_model
from lumina_ray.model.companion import COMPANION_FILE, load_companions
from lumina_ray.model.files import weights_sha256
from tests.small_catalog import SmallCatalog
from tests.tiny_dit import export_tiny_dit, tiny_dit
from tests.tiny_model import tiny_music_model


def test_a_model_with_companions_gets_their_kind_and_any_other_influence(tmp_path: Path) -> None:
    assert default_kind("nano") == "companion"
    assert default_kind("audiocraft:nano") == "companion"
    assert default_kind("nano-early") == "influence"
    for name in ("facebook/not-at-hand", "audiocraft:folder", str(tmp_path / "nowhere")):
        assert default_kind(name) == "influence"
    shutil.copytree(find_model("nano"), tmp_path / "own")
    assert default_kind(str(tmp_path / "own")) == "companion"
    (tmp_path / "own" / COMPANION_FILE).unlink()
    assert default_kind(str(tmp_path / "own")) == "influence"


def test_a_model_of_latents_gets_a_kind_that_it_has(tmp_path: Path) -> None:
    export_tiny_dit(tmp_path / "dit")
    assert default_kind(str(tmp_path / "dit")) == "gradient"
    opened = open_model(str(tmp_path / "dit"))
    assert default_kind_of(opened) == "gradient"
    assert default_kind_of(tiny_dit()) == "gradient", "in memory"
    assert set(Specification.for_model(opened, default_kind_of(opened)).dims) == {"P", "M"}
    (tmp_path / "dit" / "model_index.json").rename(tmp_path / "dit" / "model_config.json")
    assert default_kind(str(tmp_path / "dit")) == "gradient", "of stable-audio-tools"
    assert all(kind in KINDS_OF[name] for name, kind in DEFAULT_KIND.items())


def test_a_model_that_is_open_gets_the_kind_that_it_would_get_by_name() -> None:
    assert default_kind_of(open_model("nano")) == "companion"
    assert default_kind_of(open_model("nano-early")) == "influence"
    in_memory = tiny_music_model()
    assert default_kind_of(in_memory) == "companion"
    in_memory.companions = None
    assert default_kind_of(in_memory) == "influence"


def test_nanos_companion_is_its_early_checkpoint() -> None:
    found = load_companions(find_model("nano"))
    assert found.names == ("nano-early",)
    assert found.companions_sha256 == (weights_sha256(find_model("nano-early")),)
    assert found.weights_sha256 == weights_sha256(find_model("nano"))


def test_the_front_door_takes_the_default(small_catalog: SmallCatalog) -> None:
    made = lr.open_model("nano").fingerprint(next(small_catalog.songs.iterdir()))
    assert made.specification.kind == "companion"
