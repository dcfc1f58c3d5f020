"""Readings of dattri's benchmark against dattri's own model, segments, recipe and measure."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from lumina_ray.symbolic import dattri_card, gradients
from lumina_ray.symbolic.dattri import DattriBenchmark, Segments, read_benchmark
from lumina_ray.symbolic.dattri_card import agreement, inner_product_scores, trak_scores
from lumina_ray.symbolic.dattri_model import N_TOKENS, read_model
from tests.symbolic.dattri_folder import GENERATED, SMALL, TRAIN, WINDOW, write_benchmark

pytest.importorskip("dattri", reason="dattri 0.3 is no dependency: its own pins do not fit")
from dattri.algorithm.tracin import TracInAttributor
from dattri.algorithm.trak import TRAKAttributor
from dattri.benchmark.models.MusicTransformer.dataset.e_piano import EPianoDataset
from dattri.benchmark.models.MusicTransformer.music_transformer import MusicTransformer
from dattri.metric import lds
from dattri.task import AttributionTask


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> DattriBenchmark:
    folder = tmp_path_factory.mktemp("dattri")
    write_benchmark(folder)
    return read_benchmark(folder, SMALL)


def theirs(path: Path) -> MusicTransformer:
    model = MusicTransformer(
        n_layers=2, num_heads=2, d_model=8, dim_feedforward=12, max_sequence=WINDOW, rpr=True, device="cpu"
    )
    model.load_state_dict(torch.load(path))
    return model.eval()


def loader(of: Segments) -> DataLoader:
    events_nT = torch.from_numpy(of.events_nT)
    return DataLoader(TensorDataset(events_nT[:, :-1], events_nT[:, 1:]), batch_size=4)


def tasks(paths: tuple[Path, ...], *, odds: bool) -> tuple[AttributionTask, nn.Module]:
    """Models with the loss of their script's TracIn, or the log-odds of its TRAK."""
    model = theirs(paths[0])

    def loss(parameters: dict, data: tuple[Tensor, Tensor]) -> Tensor:
        logits_V = functional_call(model, parameters, (data[0][None],))[0, -1]
        value = nn.functional.cross_entropy(logits_V, data[1][-1])
        return -value - torch.log(1 - torch.exp(-value)) if odds else value

    return AttributionTask(
        loss_func=loss, model=model, checkpoints=[theirs(path).state_dict() for path in paths]
    ), model


def whole(model: nn.Module) -> dict:
    """dattri projects to 512 numbers unless it is told not to."""
    return {"proj_type": "identity", "proj_dim": sum(p.numel() for p in model.parameters())}


def test_logits_are_dattris(benchmark: DattriBenchmark) -> None:
    for T in (WINDOW, WINDOW - 2):
        events_BT = torch.randint(N_TOKENS, (4, T), generator=torch.Generator().manual_seed(T))
        with torch.no_grad():
            found = read_model(benchmark.full[1])(events_BT)
            torch.testing.assert_close(found, theirs(benchmark.full[1])(events_BT), rtol=1e-5, atol=1e-5)


def test_segments_are_dattris_but_for_the_first_of_longer_files(benchmark: DattriBenchmark) -> None:
    folder = benchmark.full[0].parents[4]
    random.seed(0)
    for place, of in ((TRAIN, benchmark.segments), (GENERATED, benchmark.queries)):
        expected = EPianoDataset(str(folder / place), max_seq=WINDOW, full_version=True)
        for number, events_T in enumerate(of.events_nT):
            if number and of.files[number] == of.files[number - 1]:
                np.testing.assert_array_equal(events_T[:-1], expected[number][0])
                np.testing.assert_array_equal(events_T[1:], expected[number][1])


@pytest.mark.parametrize("name", ["tracin", "grad-dot", "grad-cos"])
def test_inner_products_are_dattris(benchmark: DattriBenchmark, name: str) -> None:
    paths = benchmark.full if name == "tracin" else benchmark.full[:1]
    task, model = tasks(paths, odds=False)
    weights = torch.full((len(paths),), 1e-3 if name == "tracin" else 1.0)
    attributor = TracInAttributor(task, weights, name == "grad-cos", projector_kwargs=whole(model))
    expected_QN = attributor.attribute(loader(benchmark.segments), loader(benchmark.queries)).numpy().T
    found_QN = inner_product_scores(benchmark)[name]
    np.testing.assert_allclose(found_QN, expected_QN, rtol=1e-4, atol=1e-4 * abs(expected_QN).max())
    truth = (
        torch.from_numpy(benchmark.targets_RQ),
        torch.from_numpy(np.stack([np.flatnonzero(mask_N) for mask_N in benchmark.masks_RN])),
    )
    of_queries = lds(torch.from_numpy(found_QN.T), truth)[0]
    estimate, _ = agreement(name, benchmark, found_QN)
    assert estimate.value == pytest.approx(float(of_queries[~torch.isnan(of_queries)].mean()), abs=1e-6)


class NoProjection:
    """Stands for a projection that keeps all numbers, as theirs would have no use for ours."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def add(self, out: Tensor, start: int, values: Tensor) -> None:
        out[start : start + len(values)] += values


def test_trak_of_log_odds_is_dattris(benchmark: DattriBenchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = tasks(benchmark.half[:1], odds=True)
    S = sum(p.numel() for p in model.parameters())
    one = replace(benchmark, half=benchmark.half[:1], recipe=replace(SMALL, dims=S))
    monkeypatch.setattr(gradients, "SparseProjection", NoProjection)
    # With fewer segments than parameters theirs needs a λ: ours, of gradients over the root of their length.
    damping = 0.1
    monkeypatch.setattr(dattri_card, "TRAK", replace(dattri_card.TRAK, damping=damping))
    found_QN, _ = trak_scores(one)
    squares = 0.0
    for events_T in torch.from_numpy(benchmark.segments.events_nT):
        value = task.original_loss_func(dict(model.named_parameters()), (events_T[:-1], events_T[1:]))
        squares += sum(float((of**2).sum()) for of in torch.autograd.grad(value, list(model.parameters())))
    plain, _ = tasks(benchmark.half[:1], odds=False)
    attributor = TRAKAttributor(
        task,
        lambda parameters, data: torch.exp(-plain.original_loss_func(parameters, data)),
        projector_kwargs=whole(model),
        regularization=damping * squares / S / S,
    )
    attributor.cache(loader(benchmark.segments))
    expected_QN = attributor.attribute(loader(benchmark.queries)).numpy().T
    np.testing.assert_allclose(found_QN, expected_QN, rtol=1e-3, atol=1e-3 * abs(expected_QN).max())
