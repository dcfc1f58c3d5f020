"""Models are really trained without songs, and what was trained is not trained again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cluster.ablation import ablate
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank


def _small(bank: Bank) -> Bank:
    """Four of its queries, and models that hardly learn anything: even its broken pieces serve here."""
    kept = [
        q
        for kind in ("excerpt", "generated")
        for q in [q for q, query in enumerate(bank.queries) if (query.kind, query.split) == (kind, "test")][:2]
    ]
    return replace(
        bank,
        recipe=replace(bank.recipe, epochs=0.05),
        queries=[bank.queries[q] for q in kept],
        extra_queries=[],
        unusable=(),
        losses_RQK=bank.losses_RQK[:, kept],
    )


@pytest.mark.soak
def test_songs_are_left_out_models_trained_and_what_is_there_used_again(ray_cluster: str, tmp_path: Path) -> None:
    bank, console = _small(load_bank(SHIPPED)), Console(file=(tmp_path / "log").open("w"))
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
