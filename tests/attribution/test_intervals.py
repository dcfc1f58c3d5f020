"""Shares and their intervals against the share of a long piece, in worlds where it is known."""

import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import nnls
from scipy.stats import t as student

from lumina_ray.attribution import intervals
from lumina_ray.attribution.evidence import Evidence, evidence_on_all
from lumina_ray.attribution.intervals import _nonnegative_scores, share_intervals
from lumina_ray.attribution.parts import QueryParts
from lumina_ray.attribution.policies import above_noise, calibrated, shares_of
from lumina_ray.calibration import CatalogNoise, calibrate
from lumina_ray.methods.kernel import RIDGE
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


def asked(catalog: np.ndarray, noise: CatalogNoise, stretches: np.ndarray) -> Evidence:
    query = {"P": unit(stretches.sum(axis=0))}
    return evidence_on_all(noise, {"P": catalog}, query, stretches={"P": stretches})["P"]


def stretches_of(world: World, catalog: np.ndarray, weights: list[float]) -> np.ndarray:
    """Stretches that are each so much of song 3, and otherwise something else."""
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


@pytest.mark.parametrize("weights", [[0.25] * 4, [0.4, 0.4, 0.2]])
def test_self_likeness_is_that_of_a_long_piece_without_bias(weights: list[float]) -> None:
    """Stretches with one direction in common: on average the estimate is the part of the length that lies along it."""
    rng, n, D = np.random.default_rng(0), len(weights), 200
    w = np.array(weights)
    common, own, estimates, lengths = unit(rng.normal(size=D)), 0.8, [], []
    for _ in range(2000):
        gradients = 0.6 * common + own * rng.normal(size=(n, D)) / np.sqrt(D)
        query = w @ gradients
        found = QueryParts.of(unit(query), unit(gradients), w).self_likeness
        assert found is not None
        estimates.append(found * (query @ query))
        lengths.append(query @ query)
    assert np.mean(estimates) == pytest.approx(0.36, abs=0.01)
    assert np.mean(lengths) == pytest.approx(0.36 + own**2 * (w @ w), abs=0.01)


def test_parts_add_up_to_the_query_and_the_rest_stays(world, catalog) -> None:
    stretches = stretches_of(world, catalog, [0.5, 0.7, 0.2])
    other = world.music(1)[0]
    query = unit(stretches.T @ [0.5, 0.3, 0.2] + 0.4 * other)
    parts = QueryParts.of(query, stretches, np.array([0.5, 0.3, 0.2]))
    np.testing.assert_allclose(parts.vector, query, atol=1e-6)
    np.testing.assert_allclose(parts.rest @ stretches.T, 0, atol=1e-6)
    left = parts.without(np.array([1]))
    np.testing.assert_allclose(left.vector, unit(query - parts.parts[1]), atol=1e-6)
    np.testing.assert_allclose(left.weights, [0.5 / 0.7, 0.2 / 0.7])
    assert QueryParts.of(query, query[None], np.ones(1)).self_likeness is None


def test_the_interval_is_the_jackknife_of_shares_that_are_worked_out_alone(world, catalog, noise) -> None:
    stretches = stretches_of(world, catalog, [0.9, 0.8, 0.7, 0.5, 0.6])
    e = asked(catalog, noise, stretches)
    verdict = calibrated(e)
    low, high = share_intervals(e, verdict)
    assert verdict.qualified.nonzero()[0].tolist() == [3]
    angles = []
    for i in range(5):
        rest = np.delete(stretches, i, axis=0)
        s = float(unit(rest.sum(axis=0)) @ catalog[3])
        t = max(float(verdict.thresholds[3]), 0)
        gram = rest @ rest.T
        r = (gram.sum() - np.trace(gram)) / (1 - 1 / 4) / gram.sum()
        above = s**2 / 1.01 * (s**2 - t**2) / (s**2 * (1 - t**2))
        angles.append(np.arcsin(np.sqrt(min(1, above / max((r - t**2) / (1 - t**2), 0.5)))))
    spread = np.sqrt(4 / 5 * np.sum((angles - np.mean(angles)) ** 2))
    centre = np.arcsin(np.sqrt(verdict.shares[3]))
    ends = np.clip([centre - student.ppf(0.975, 4) * spread, centre + student.ppf(0.975, 4) * spread], 0, np.pi / 2)
    np.testing.assert_allclose([low[3], high[3]], np.sin(ends) ** 2, rtol=1e-6)
    assert not np.delete(low, 3).any()
    assert not np.delete(high, 3).any()


@pytest.mark.parametrize("n", [3, 6, 18])
def test_intervals_hold_the_share_of_the_long_piece(n: int) -> None:
    """A piece is one direction, and each of its stretches that and something of its own."""
    rng = np.random.default_rng(n)
    world = World(rng, 64)
    songs = world.music(120)
    noise = calibrate({"P": songs}, {"P": world.music(50)})
    held, wide = [], []
    while len(held) < 300:
        song, weight, common = rng.integers(120), rng.uniform(0.45, 0.75), rng.uniform(0.4, 0.9)
        piece = unit(weight * songs[song] + (1 - weight) * world.music(1)[0])
        long = calibrated(evidence_on_all(noise, {"P": songs}, {"P": piece})["P"])
        e = asked(songs, noise, unit(np.sqrt(common) * piece + np.sqrt(1 - common) * world.noise(n)))
        verdict = calibrated(e)
        # Which songs qualify is another question, with a guarantee of its own.
        if not long.qualified[song] or not verdict.qualified[song]:
            continue
        low, high = share_intervals(e, verdict)
        held.append(low[song] <= long.shares[song] <= high[song])
        wide.append(high[song] - low[song])
    # Of 300 at 95 %, the standard error is 1.3 %.
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.mean(wide) < {3: 0.75, 6: 0.4, 18: 0.2}[n]


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_stretches_have_no_interval(world, catalog, noise, n: int) -> None:
    e = asked(catalog, noise, stretches_of(world, catalog, [0.8] * n))
    verdict = calibrated(e)
    assert verdict.shares[3] > 0
    assert share_intervals(e, verdict) is None


def test_no_share_is_corrected_by_more_than_a_limit_and_all_add_up_to_one_at_most() -> None:
    explained, s, t = np.array([0.5, 0.3]), np.array([0.8, 0.6]), np.array([0.4, 0.3])
    alone = explained * above_noise(s, t)
    np.testing.assert_allclose(shares_of(explained, s, t, None), alone)
    np.testing.assert_allclose(shares_of(explained, s, t, 1.0), alone)
    np.testing.assert_allclose(shares_of(0.5 * explained, s, t, -0.3), alone)
    # r − t² of 1 − t²: with r as far above the noise as 0.8 of the way.
    r = t[0] ** 2 + 0.8 * (1 - t[0] ** 2)
    np.testing.assert_allclose(shares_of(explained[:1], s[:1], t[:1], r), alone[:1] / 0.8)
    assert shares_of(explained, s, t, 0.0).sum() == pytest.approx(min(1, 2 * alone.sum()))


def test_more_even_evidence_is_surer_and_nothing_is_certain_of_nothing(world, catalog, noise) -> None:
    widths = []
    for weights in ([0.6] * 8, [0.95, 0.95, 0.95, 0.95, 0.1, 0.1, 0.1, 0.1]):
        e = asked(catalog, noise, stretches_of(world, catalog, weights))
        low, high = share_intervals(e, calibrated(e))
        widths.append(high[3] - low[3])
    assert widths[0] < widths[1]
    e = asked(catalog, noise, world.music(4).astype(np.float64))
    verdict = calibrated(e)
    if not verdict.qualified.any():
        assert not share_intervals(e, verdict)[1].any()


def test_many_stretches_are_left_out_in_blocks(world, catalog, noise, monkeypatch) -> None:
    e = asked(catalog, noise, stretches_of(world, catalog, [0.6, 0.7] * 8))
    verdict = calibrated(e)
    one_by_one = share_intervals(e, verdict)
    monkeypatch.setattr(intervals, "_MAX_LEFT_OUT", 8)
    in_blocks = share_intervals(e, verdict)
    for ends, of_blocks in zip(one_by_one, in_blocks, strict=True):
        np.testing.assert_allclose(ends, of_blocks, atol=0.1)
    assert not np.array_equal(one_by_one, in_blocks)


def test_a_share_that_is_the_whole_clip_is_no_surer_than_its_correction(world, catalog, noise) -> None:
    """What is of the stretches' own cancels in the whole: corrected for it again, the song explains more than all."""
    own = 0.7 * world.noise(2)
    e = asked(catalog, noise, np.stack([unit(catalog[3] + sign * one) for one in own for sign in (-1, 1)]))
    verdict = calibrated(e)
    low, high = share_intervals(e, verdict)
    assert [group.members.tolist() for group in verdict.groups] == [[3]]
    assert verdict.shares[3] == high[3] == pytest.approx(1)
    # One song's share before any correction: what it explains under the regression's λ, above the noise.
    before = e.similarity[3] ** 2 / (1 + RIDGE) * above_noise(e.similarity[3], verdict.thresholds[3])
    assert low[3] <= before * (1 + 1e-6) < 1
