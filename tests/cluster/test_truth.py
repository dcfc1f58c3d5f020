"""Resuming work that is counted by its files."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from cluster.truth import Workplace, _begin, run_missing, training_device
from lumina_ray.errors import SpecificationMismatch
from lumina_ray.truth.recipe import NANO, SMALL


def write(text: str, path: Path) -> None:
    path.write_text(text)


def test_only_files_that_are_missing_are_made(ray_cluster: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with (tmp_path / "log").open("w") as log:
        console = Console(file=log)
        run_missing("Files", write, [(tmp_path / name, (name.upper(),)) for name in "abc"], console)
    assert [(tmp_path / name).read_text() for name in "abc"] == ["before", "B", "C"]
    assert training_device() == "cpu"


def test_a_build_is_continued_by_its_own_recipe_and_version_alone(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    place.parts.mkdir()
    _begin(place, SMALL)
    _begin(place, SMALL)
    with pytest.raises(SpecificationMismatch, match="n_layers = 8, not 16"):
        _begin(place, NANO)
    # The first builds named no version.
    (place.parts / "recipe.json").write_text(json.dumps(asdict(SMALL)))
    with pytest.raises(SpecificationMismatch, match="bank version = None, not 3; give another --out"):
        _begin(place, SMALL)
