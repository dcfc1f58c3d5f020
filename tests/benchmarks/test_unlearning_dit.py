"""The published grid of unlearning on a tiny diffusion transformer: its ranks are those of gradients by autograd."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.unlearning_dit import MASKS, PUBLISHED, grid_ranks, prepare
from lumina_ray.catalog import scan_folder, write_manifest
from lumina_ray.truth.unlearning import Gradients
from lumina_ray.unlearning.select import select_parts
from lumina_ray.unlearning.unlearn import DAMPING
from tests.cluster.catalog import write_tone
from tests.tiny_dit import export_tiny_dit


def test_ranks_of_the_grid_are_those_of_the_slopes(tmp_path: Path) -> None:
    export_tiny_dit(tmp_path / "dit")
    (tmp_path / "songs").mkdir()
    for seed in range(3):
        write_tone(tmp_path / "songs" / f"tone-{seed}.flac", 2, seed=seed)
    write_manifest(scan_folder(tmp_path / "songs").songs, tmp_path / "songs.parquet")
    model, made = prepare(str(tmp_path / "dit"), tmp_path / "songs.parquet", 3, 2)
    assert [song.heard[0].sum() for song in made[True]] == [50] * 3
    assert [song.heard[0].sum() for song in made[False]] == [100] * 3
    assert all(song.chunks[0].dtype == np.float16 for song in made[True])
    gradients = {masked: Gradients(model, of) for masked, of in made.items()}
    assert {layers: set(grid_ranks(model, gradients, layers, DAMPING)) for layers in PUBLISHED} == {
        layers: set(MASKS) for layers in PUBLISHED
    }

    parts = select_parts(model, "cross_kv")

    def slopes(masked: bool) -> torch.Tensor:
        rows = []
        for song in made[masked]:
            latents_1CT = torch.from_numpy(song.chunks[0].astype(np.float32))[None]
            for part in parts:
                part.parameter.requires_grad_(True)
            values_CT = model.losses(latents_1CT, [100], model.draws).values_BKT[0]
            loss = values_CT[:, torch.from_numpy(song.heard[0])].mean()
            found = torch.autograd.grad(loss, [part.parameter for part in parts])
            rows.append(torch.cat([gradient.flatten() for gradient in found]))
        return torch.stack(rows)

    for mask, (forgotten, compared) in MASKS.items():
        scores_NN = slopes(forgotten) @ slopes(compared).T
        expected = [1 + int((row > row[i]).sum()) for i, row in enumerate(scores_NN)]
        assert grid_ranks(model, gradients, "cross_kv", None)[mask].tolist() == expected


def test_a_model_of_codes_is_sent_to_its_own_tables(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"nano predicts codes: see benchmarks\.unlearning"):
        prepare("nano", tmp_path, 2, 2)
