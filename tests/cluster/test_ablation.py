"""Models are really trained without songs, and what was trained is not trained again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from cluster.ablation import ablate
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.models import new_model, weights_of
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL
from tests.truth.small_bank import TEXT, small_bank

RECIPE = replace(SMALL, n_layers=1, dim=32, epochs=2.0)


def tiny_bank() -> Bank:
    """Random songs of a second, and four queries."""
    recordings, generator = corpus(0), torch.Generator().manual_seed(0)
    codes = [torch.randint(512, (4, 50), generator=generator) for _ in recordings]
    excerpts = members(recordings, "A")[:2]
    queries = [Query("excerpt", "A", i, "test", codes[i][:, :20]) for i in excerpts]
    queries += [Query("generated", "A", -1, "test", codes[i][:, 20:]) for i in excerpts]
    models = {"base": weights_of(new_model(RECIPE, TEXT))}
    return small_bank(RECIPE, recordings, codes, queries, models=models)


def test_songs_are_left_out_models_trained_and_what_is_there_used_again(ray_cluster: str, tmp_path: Path) -> None:
    bank, console = tiny_bank(), Console(file=(tmp_path / "log").open("w"))
    found = ablate(bank, tmp_path / "out", "random", sizes=[2], n_queries=2, n_random=5, console=console)
    assert [(one.size, one.n_catalog, one.kind, len(one.sigmas)) for one in found] == [
        (2, 104, "excerpt", 1),
        (2, 104, "generated", 1),
    ]
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/parts").iterdir()}
    losses = np.stack([np.load(path)["losses"] for path in sorted(parts)])
    assert losses.shape == (7, 4, 4)
    assert len({row.tobytes() for row in losses}) == 7, "each model learned from other songs"
    saved = json.loads((tmp_path / "out/ablation.json").read_text())
    assert saved["ablations"][0]["sigmas"] == list(found[0].sigmas)
    # One is lost: it alone is trained again, to the same numbers.
    lost = sorted(parts)[3]
    lost.unlink()
    assert ablate(bank, tmp_path / "out", "random", sizes=[2], n_queries=2, n_random=5, console=console) == found
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/parts").iterdir()}
    assert {path for path in parts if parts[path] != again[path]} == {lost}
