"""Intervals of totals: closed forms, drawing, and how often they hold what is true if clips share their errors."""

import numpy as np
import pytest
from scipy.stats import norm

from lumina_ray.attribution.policies import above_noise
from lumina_ray.calibration import ALPHA
from lumina_ray.statement.intervals import total_interval
from lumina_ray.statement.lines import LEVELS, _drawn_ranks


def test_without_errors_of_their_own_the_draws_alone_make_it() -> None:
    drawn = np.linspace(10, 12, LEVELS)
    assert total_interval(drawn[::-1], 0.0) == (10, 12)


def test_without_shared_errors_it_is_a_normal_one() -> None:
    low, high = total_interval([5.0] * LEVELS, 0.04)
    assert (low, high) == pytest.approx((5 - 1.959964 * 0.2, 5 + 1.959964 * 0.2), abs=1e-5)


def test_it_is_the_one_that_drawing_gives() -> None:
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.gamma(2, 1, LEVELS))
    draws = rng.choice(drawn, 400_000) + rng.normal(0, 0.5, 400_000)
    assert total_interval(drawn, 0.25) == pytest.approx(np.quantile(draws, (0.025, 0.975)), abs=0.02)


def coverage(n_clips: int, n_worlds: int = 150, n_controls: int = 200) -> tuple[float, float, float]:
    """Simulate worlds in which all clips are judged by the same controls, and each has its own draw of stretches.

    A world draws its controls from a fixed population. True shares are those of the population's threshold and of a
    clip without chance in its stretches; reports have the threshold of their controls, and an interval over draws of
    stretches.

    Returns:
        How often the interval of the total holds the true total; how often one does that takes clips for independent;
        and the mean width of ours, as a part of the true total.
    """
    rng = np.random.default_rng(n_clips)
    population, m = norm(0.3, 0.08), int(ALPHA * (n_controls + 1) + 1e-9)
    ranks = _drawn_ranks(n_controls, "mean")
    held = held_if_independent = 0
    widths = []
    for _ in range(n_worlds):
        maxima = np.sort(population.rvs(n_controls, random_state=rng))[::-1]
        similarity = rng.uniform(0.6, 0.9, n_clips)
        sd = rng.uniform(0.0, 0.03, n_clips)
        explained = similarity**2
        truth = float((explained * above_noise(similarity, population.ppf(1 - ALPHA))).sum())
        seen = np.clip(similarity + rng.normal(0, sd), 0.05, 0.999)
        drawn_nL = seen[:, None] ** 2 * above_noise(seen[:, None], maxima[ranks][None])
        # What a report says.
        stretches_nB = np.clip(seen[:, None] + sd[:, None] * rng.normal(size=(n_clips, 200)), 0.05, 0.999)
        drawn_nB = stretches_nB**2 * above_noise(stretches_nB, maxima[m - 1])
        low_n, high_n = np.quantile(drawn_nB, (0.025, 0.975), axis=1)
        own = (high_n - low_n) / (2 * norm.ppf(0.975))
        low, high = total_interval(drawn_nL.sum(axis=0), float((own**2).sum()))
        held += low <= truth <= high
        widths.append((high - low) / truth)
        point = float((seen**2 * above_noise(seen, maxima[m - 1])).sum())
        half = float(np.sqrt((((high_n - low_n) / 2) ** 2).sum()))
        held_if_independent += abs(point - truth) <= half
    return held / n_worlds, held_if_independent / n_worlds, float(np.mean(widths))


def test_it_holds_the_true_total_however_many_clips_share_their_errors() -> None:
    found = {n: coverage(n) for n in (1, 10, 100, 1000)}
    for held, _, _ in found.values():
        assert held >= 0.9
    # Taken for independent, many clips make an interval that is too narrow.
    assert found[100][1] < 0.7
    assert found[1000][1] < 0.4
    # Ours stays as wide as what they share, and does not shrink as 1/√n.
    assert found[1000][2] > 0.8 * found[100][2]
