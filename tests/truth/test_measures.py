"""The linear datamodeling score against scipy and by construction, precedence against its U test."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from lumina_ray.truth.measures import (
    DRAWS,
    datamodel_scores,
    draw_again,
    effective_queries,
    lds,
    lds_in_draws,
    mean,
    precedence,
)


def draw(seed: int, R: int = 40, Q: int = 6, N: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks_RN = rng.permuted(np.arange(N)[None].repeat(R, axis=0) < N // 2, axis=1)
    return rng.normal(size=(Q, N)), masks_RN, rng.normal(size=(R, Q))


def test_every_query_by_scipy() -> None:
    scores_QN, masks_RN, losses_RQ = draw(0)
    losses_RQ[3] = losses_RQ[7]  # ties
    ours_Q = datamodel_scores(scores_QN, masks_RN, losses_RQ)
    for q, ours in enumerate(ours_Q):
        predicted_R = [scores_QN[q, masks_RN[r]].sum() for r in range(len(masks_RN))]
        np.testing.assert_allclose(ours, spearmanr(predicted_R, -losses_RQ[:, q]).statistic, atol=1e-12)


def test_scores_that_made_the_losses_are_perfect_and_their_opposite_is_the_worst() -> None:
    scores_QN, masks_RN, _ = draw(1)
    losses_RQ = 5 - masks_RN @ scores_QN.T
    assert str(lds(scores_QN, masks_RN, losses_RQ)) == "1.000 [1.000, 1.000]"
    np.testing.assert_allclose(datamodel_scores(-scores_QN, masks_RN, losses_RQ), -1)


def test_scores_that_do_not_tell_songs_apart_say_nothing() -> None:
    _, masks_RN, losses_RQ = draw(2)
    np.testing.assert_array_equal(datamodel_scores(np.ones((6, 12)), masks_RN, losses_RQ), 0)


def test_the_interval_covers_what_noise_does_and_narrows_with_more_models() -> None:
    few, many = (lds(*draw(3, R=R, Q=20)) for R in (20, 320))
    assert few.low < 0 < few.high
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_precedence_is_the_area_under_the_curve_and_ties_are_halves() -> None:
    assert precedence(np.array([2.0, 1.0, 0.0]), np.array([1.0, 1.0])) == (1 + 0.5 + 0) / 3
    rng = np.random.default_rng(0)
    ahead, behind = rng.normal(0.5, 1, 30), rng.normal(0, 1, 40)
    assert precedence(ahead, behind) == pytest.approx(mannwhitneyu(ahead, behind).statistic / (30 * 40))


def test_a_mean_lies_in_its_interval() -> None:
    values = np.random.default_rng(0).uniform(size=400)
    estimate = mean(values)
    assert estimate.value == values.mean()
    # The normal approximation, to which many values come close.
    half = 1.96 * values.std() / 20
    np.testing.assert_allclose([estimate.low, estimate.high], [values.mean() - half, values.mean() + half], atol=0.004)


@pytest.mark.parametrize(("R", "Q"), [(12, 30), (30, 12)])
def test_effective_queries_are_the_participation_ratio_of_the_correlation(R: int, Q: int) -> None:
    rng = np.random.default_rng(0)
    losses_RQ = 5 + rng.normal(size=(R, 4)) @ rng.normal(size=(4, Q)) + 0.1 * rng.normal(size=(R, Q))
    eigenvalues_Q = np.linalg.eigvalsh(np.corrcoef(losses_RQ, rowvar=False))
    expected = eigenvalues_Q.sum() ** 2 / (eigenvalues_Q**2).sum()
    assert effective_queries(losses_RQ) == pytest.approx(expected)
    assert 1 < expected < 4.5


def test_queries_that_move_together_are_one_and_queries_apart_are_as_many_as_they_are() -> None:
    together_RQ = np.random.default_rng(0).normal(size=(20, 1)) * np.arange(1, 8)
    assert effective_queries(together_RQ) == pytest.approx(1)
    apart_RQ = np.concatenate([np.eye(6), -np.eye(6)]) * np.arange(1, 7)
    assert effective_queries(apart_RQ) == pytest.approx(6)
    assert effective_queries(np.ones((5, 3))) == 0


def test_every_draw_by_scipy() -> None:
    scores_QN, masks_RN, losses_RQ = draw(4, R=12)
    losses_RQ[3] = losses_RQ[7]  # ties
    resampled = lds_in_draws(scores_QN, masks_RN, losses_RQ, draw_again(12, range(6), seed=5))
    rng = np.random.default_rng(5)
    predicted_RQ = masks_RN @ scores_QN.T
    for ours in resampled.draws_n[:20]:
        models, queries = rng.integers(12, size=12), rng.integers(6, size=6)
        expected = [spearmanr(predicted_RQ[models, q], -losses_RQ[models, q]).statistic for q in queries]
        np.testing.assert_allclose(ours, np.mean(expected), atol=1e-12)


def test_a_difference_of_equals_is_nothing_and_pairs_are_narrower_than_their_parts() -> None:
    scores_QN, masks_RN, _ = draw(6)
    rng = np.random.default_rng(6)
    losses_RQ = rng.normal(size=(40, 1)) - masks_RN @ scores_QN.T + 2 * rng.normal(size=(40, 6))
    draws = draw_again(40, range(6))
    one, other = (
        lds_in_draws(s, masks_RN, losses_RQ, draws) for s in (scores_QN, scores_QN + 0.01 * rng.normal(size=12))
    )
    assert str((one - one).estimate) == "0.000 [0.000, 0.000]"
    paired, alone = (one - other).estimate, one.estimate
    assert paired.value == one.value - other.value
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_queries_of_a_cluster_are_drawn_together_and_make_no_interval_narrower() -> None:
    draws = draw_again(40, ["b", "a", "b", "c"])
    np.testing.assert_array_equal(draws.queries_nQ[:, 0], draws.queries_nQ[:, 2])
    assert draws.models_nR.shape == (DRAWS, 40)
    assert (draws.models_nR.sum(axis=1) == 40).all()
    scores_QN, masks_RN, losses_RQ = draw(7)
    many = [np.tile(array, (8, 1)) for array in (scores_QN, losses_RQ.T)]
    widths = {}
    for name, clusters in (("apart", range(48)), ("clusters", [q % 6 for q in range(48)])):
        estimate = lds_in_draws(many[0], masks_RN, many[1].T, draw_again(40, clusters)).estimate
        widths[name] = estimate.high - estimate.low
    once = lds(scores_QN, masks_RN, losses_RQ)
    assert widths["clusters"] == pytest.approx(once.high - once.low)
    assert widths["apart"] < widths["clusters"]
