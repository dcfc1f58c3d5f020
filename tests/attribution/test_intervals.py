"""Intervals on shares against shares that are worked out draw by draw."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import nnls

from lumina_ray.attribution.evidence import Evidence, evidence_on_all
from lumina_ray.attribution.intervals import _nonnegative_scores, share_intervals
from lumina_ray.attribution.policies import calibrated
from lumina_ray.calibration import ALPHA, CatalogNoise, calibrate
from tests.calibration.synthetic import World, unit


@pytest.fixture(scope="module")
def world() -> World:
    return World(np.random.default_rng(0), 64)


@pytest.fixture(scope="module")
def catalog(world: World) -> np.ndarray:
    return world.music(120)


@pytest.fixture(scope="module")
def noise(world: World, catalog: np.ndarray) -> CatalogNoise:
    return calibrate({"P": catalog}, {"P": world.music(50)})


def asked(catalog: np.ndarray, noise: CatalogNoise, chunks: np.ndarray) -> Evidence:
    return evidence_on_all(noise, {"P": catalog}, {"P": unit(chunks.sum(axis=0))})["P"]


def without_noise_of_controls(e: Evidence) -> Evidence:
    """The evidence, as if all controls had the same best score."""
    bar = e.gate.critical(ALPHA)
    return replace(e, gate=e.gate.model_copy(update={"control_maxima": (bar,) * e.gate.n_controls}))


def chunks_of(world: World, catalog: np.ndarray, weights: list[float]) -> np.ndarray:
    """Chunks that are each so much of song 3, and otherwise something else."""
    return np.stack([unit(w * catalog[3] + (1 - w) * world.music(1)[0]) for w in weights])


def test_scores_of_many_queries_are_those_of_non_negative_least_squares(catalog) -> None:
    """Against the regression with λ as additional rows, query by query: some of them bound by zero, and some not."""
    K, rng = catalog[:12].astype(np.float64), np.random.default_rng(2)
    gram = K @ K.T + 0.01 * np.eye(12)
    unbound_qU = rng.uniform(0.1, 1, (12, 10))
    inner_qU = np.hstack([gram @ unbound_qU, rng.uniform(-0.2, 1, (12, 30))])
    scores_qU = _nonnegative_scores(K, inner_qU)
    np.testing.assert_allclose(scores_qU[:, :10], unbound_qU, atol=1e-10)
    # ‖rows·a − target‖² is aᵀ(KKᵀ + λI)a − 2 aᵀ inner, and a constant.
    root = scipy.linalg.sqrtm(gram).real
    for inner, scores in zip(inner_qU.T, scores_qU.T, strict=True):
        expected, _ = nnls(root, np.linalg.solve(root, inner))
        np.testing.assert_allclose(scores, expected, atol=1e-10)
    assert (scores_qU[:, 10:] == 0).any(axis=0).any()


def test_draws_are_bootstrap_samples_of_chunks_and_controls(world, catalog, noise) -> None:
    chunks = chunks_of(world, catalog, [0.9, 0.8, 0.7, 0.3, 0.2])
    e = asked(catalog, noise, chunks)
    verdict = calibrated(e)
    low, high = share_intervals(e, verdict, chunks)
    rng = np.random.default_rng(1)
    shares, maxima = [], np.array(e.gate.control_maxima)
    for _ in range(2000):
        drawn = np.sort(maxima[rng.integers(50, size=50)])[::-1]
        other = e.gate.model_copy(update={"control_maxima": tuple(drawn)})
        moved = e.similarity_at(other.critical(ALPHA))[3] - e.similarity_at(e.gate.critical(ALPHA))[3]
        of_draw = asked(catalog, noise, chunks[rng.integers(5, size=5)])
        s = of_draw.similarity[3]
        t = max(verdict.thresholds[3] + moved, 0)
        assert verdict.qualified.nonzero()[0].tolist() == [3]
        shares.append(s**2 / 1.01 * np.clip((s**2 - t**2) / (s**2 * (1 - t**2)), 0, 1))
    np.testing.assert_allclose([low[3], high[3]], np.quantile(shares, [0.025, 0.975]), atol=0.05)
    assert low[3] < verdict.shares[3] < high[3]
    assert not np.delete(low, 3).any()
    assert not np.delete(high, 3).any()


def test_one_chunk_leaves_the_controls_alone_to_vary(world, catalog, noise) -> None:
    chunks = chunks_of(world, catalog, [0.8])
    e = asked(catalog, noise, chunks)
    verdict = calibrated(e)
    low, high = share_intervals(e, verdict, chunks)
    assert 0 < low[3] <= verdict.shares[3] <= high[3] < 1
    e = without_noise_of_controls(e)
    verdict = calibrated(e)
    low, high = share_intervals(e, verdict, chunks)
    np.testing.assert_allclose([low[3], high[3]], verdict.shares[3], rtol=1e-6)


def test_more_even_evidence_is_surer_and_nothing_is_certain_of_nothing(world, catalog, noise) -> None:
    widths = []
    for weights in ([0.6] * 8, [0.95, 0.95, 0.95, 0.95, 0.1, 0.1, 0.1, 0.1]):
        chunks = chunks_of(world, catalog, weights)
        e = asked(catalog, noise, chunks)
        low, high = share_intervals(e, calibrated(e), chunks)
        widths.append(high[3] - low[3])
    assert widths[0] < widths[1]
    unrelated = world.music(4).astype(np.float64)
    e = asked(catalog, noise, unrelated)
    verdict = calibrated(e)
    if not verdict.qualified.any():
        assert not share_intervals(e, verdict, unrelated)[1].any()


def test_what_chunks_do_not_explain_stays_as_it_is(world, catalog, noise) -> None:
    """A fingerprint that is not linear in its chunks: without them at all, every draw is the query itself."""
    chunks = np.zeros((1, 64))
    chunks[0, 0] = 1
    g = unit(catalog[3] - catalog[3, 0] * chunks[0])
    e = without_noise_of_controls(asked(catalog, noise, g[None]))
    verdict = calibrated(e)
    assert verdict.shares[3] > 0.5
    for end in share_intervals(e, verdict, chunks):
        np.testing.assert_allclose(end, verdict.shares, atol=1e-6)
