"""Scores of dattri's recipe against plain autograd, the methods' own, and scipy."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import spearmanr
from torch import Tensor, nn
from typer.testing import CliRunner

from lumina_ray.cli.main import app
from lumina_ray.errors import NumericsError
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.methods import METHODS, attribute, cache
from lumina_ray.symbolic import dattri_card
from lumina_ray.symbolic.bank import unit_features
from lumina_ray.symbolic.card_table import print_dattri_card
from lumina_ray.symbolic.dattri import DattriBenchmark, read_benchmark
from lumina_ray.symbolic.dattri_card import (
    PUBLISHED,
    agreement,
    inner_product_scores,
    make_dattri_card,
    trak_scores,
)
from lumina_ray.symbolic.dattri_model import read_model
from tests.symbolic.dattri_folder import MODELS, QUERIES, SEGMENTS, SMALL, write_benchmark


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dattri")
    write_benchmark(folder)
    return folder


@pytest.fixture(scope="module")
def benchmark(folder: Path) -> DattriBenchmark:
    return read_benchmark(folder, SMALL)


def last_events(path: Path, events_nT: np.ndarray, *, odds: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the last event of each, and gradients of its loss (or its log-odds), in float64."""
    model = read_model(path).double()
    probabilities, rows = [], []
    for events_T in torch.from_numpy(events_nT):
        probability = model(events_T[None, :-1])[0, -1].softmax(dim=0)[events_T[-1]]
        value: Tensor = (probability / (1 - probability)).log() if odds else -probability.log()
        parts = torch.autograd.grad(value, list(model.parameters()))
        probabilities.append(probability.item())
        rows.append(nn.utils.parameters_to_vector(parts).numpy())
    return np.array(probabilities), np.stack(rows)


def test_inner_products_are_those_of_the_last_events_loss_and_of_the_methods(benchmark: DattriBenchmark) -> None:
    of_models = [
        [last_events(path, of.events_nT)[1] for of in (benchmark.segments, benchmark.queries)]
        for path in benchmark.full
    ]
    found = inner_product_scores(benchmark)
    segments, queries = of_models[0]
    expected = {
        "tracin": sum(1e-3 * queries_QS @ segments_NS.T for segments_NS, queries_QS in of_models),
        "grad-dot": queries @ segments.T,
        "grad-cos": (queries / np.linalg.norm(queries, axis=1)[:, None])
        @ (segments / np.linalg.norm(segments, axis=1)[:, None]).T,
    }
    held = [unit_features(np.stack([of[i] for of in of_models]), np.full(MODELS, 1e-3)) for i in range(2)]
    for name, scores_QN in expected.items():
        np.testing.assert_allclose(found[name], scores_QN, rtol=1e-4, atol=1e-5 * abs(scores_QN).max())
        # Grad-Dot and Grad-Cos look at the last model there is; here it is the first.
        of_method = held if name == "tracin" else [unit_features(of[None]) for of in of_models[0]]
        by_method = attribute(cache(METHODS[name], of_method[0]), of_method[1])
        np.testing.assert_allclose(by_method, scores_QN, rtol=1e-4, atol=1e-5 * abs(scores_QN).max())


def test_fewer_held_gradients_give_the_same_products(
    benchmark: DattriBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = inner_product_scores(benchmark)
    monkeypatch.setattr(dattri_card, "HELD_BYTES", 1)
    monkeypatch.setattr(dattri_card, "_TOGETHER", 3)
    for name, scores_QN in inner_product_scores(benchmark).items():
        np.testing.assert_allclose(scores_QN, whole[name], rtol=1e-4, atol=1e-5 * abs(whole[name]).max())


def test_trak_is_a_mean_over_halves_of_log_odds_each_with_a_projection_of_its_own(benchmark: DattriBenchmark) -> None:
    found_QN, losses_CQ = trak_scores(benchmark)
    kernels, rests = [], []
    for number, path in enumerate(benchmark.half):
        probabilities_N, segments_NS = last_events(path, benchmark.segments.events_nT, odds=True)
        probabilities_Q, queries_QS = last_events(path, benchmark.queries.events_nT, odds=True)
        n_in, D = segments_NS.shape[1], SMALL.dims
        matrix_SD = np.zeros((n_in, D))
        project = SparseProjection(n_in, D, dattri_card._NONZEROS, dattri_card._SEED + number)
        for block in range(project.nonzeros):
            buckets_S, signs_S = project._entries(block, 0, n_in, torch.device("cpu"))
            matrix_SD[np.arange(n_in), buckets_S.numpy()] += signs_S.numpy()
        phi_ND, phi_QD = segments_NS @ matrix_SD, queries_QS @ matrix_SD
        # There are fewer segments than numbers here: the inverse that damping leaves in the limit.
        kernels.append(phi_QD @ np.linalg.pinv(phi_ND.T @ phi_ND, rcond=1e-10) @ phi_ND.T)
        rests.append(1 - probabilities_N)
        np.testing.assert_allclose(losses_CQ[number], -np.log(probabilities_Q), rtol=1e-4)
    expected_QN = np.mean(kernels, axis=0) * np.mean(rests, axis=0)
    np.testing.assert_allclose(found_QN, expected_QN, rtol=1e-3, atol=1e-3 * abs(expected_QN).max())


def test_lds_is_scipys_without_queries_that_have_no_number(benchmark: DattriBenchmark) -> None:
    rng = np.random.default_rng(1)
    scores_QN = rng.normal(size=(QUERIES, SEGMENTS))
    scores_QN[1] = 0
    targets_RQ = benchmark.targets_RQ.copy()
    targets_RQ[:, 2], targets_RQ[3, 3] = -0.5, np.nan
    found, left_out = agreement("x", replace(benchmark, targets_RQ=targets_RQ), scores_QN)
    with np.errstate(invalid="ignore"):
        each = [
            spearmanr(benchmark.masks_RN @ scores_QN[q], targets_RQ[:, q], nan_policy="propagate").statistic
            for q in range(QUERIES)
        ]
    assert np.isnan(each).tolist() == [False, True, True, True, False]
    assert left_out == 3
    assert found.value == pytest.approx(np.nanmean(each))
    with pytest.raises(NumericsError, match="x: no query has"):
        agreement("x", benchmark, np.zeros_like(scores_QN))


def test_target_values_that_are_minus_the_halves_losses_show_it(benchmark: DattriBenchmark) -> None:
    _, losses_CQ = trak_scores(benchmark)
    targets_RQ = benchmark.targets_RQ.copy()
    targets_RQ[:MODELS] = -losses_CQ
    targets_RQ[0, 0] = np.nan
    for sign in (1, -1):
        of = make_dattri_card(replace(benchmark, targets_RQ=sign * targets_RQ))
        assert of.facts["correlation of target values with losses of halves"] == pytest.approx(-sign)
        assert [row.left_out for row in of.rows] == [1] * len(PUBLISHED)


def test_the_command_prints_the_card_beside_the_papers_and_writes_it(
    folder: Path, benchmark: DattriBenchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_dattri_card(benchmark)
    with Console(width=80, record=True) as console:
        print_dattri_card(card, console)
    text = console.export_text()
    assert "…" not in text
    for row in card.rows:
        assert str(row.lds) in text
        assert f"{PUBLISHED[row.name]:.3f}" in text
    monkeypatch.setattr(read_benchmark, "__defaults__", (SMALL,))
    out = tmp_path / "card.json"
    arguments = ["symbolic", "card", str(folder), "--recipe", "dattri", "--device", "cpu", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "TracIn: model 3 of 3" in done.stderr
    assert "dattri: reliability" in done.stdout
    assert json.loads(out.read_text("utf-8")) == json.loads(json.dumps(asdict(card)))
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout) == json.loads(out.read_text("utf-8"))
