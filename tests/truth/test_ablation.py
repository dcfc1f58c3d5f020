"""Ablation against losses whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lumina_ray.errors import UsageError
from lumina_ray.truth.ablation import ablations, removals
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.recipe import SMALL

RECORDINGS = corpus(0)
CATALOG = members(RECORDINGS, "A")
RECIPE = replace(SMALL, subsets=1, repeats=0)
BANK = Bank(RECIPE, RECORDINGS, [torch.zeros(4, 1)], [], [], {}, [], np.zeros((0, 0, 4), np.float32))


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, len(CATALOG)))


def test_the_best_songs_of_each_query_are_left_out_and_nothing_else(scores: np.ndarray) -> None:
    wanted = removals(BANK, scores, [4, 7, 9], [1, 5], n_random=2)
    of_each = [-1, -1, 4, 7, 9]
    assert [(r.size, r.query) for r in wanted] == [(size, query) for size in (1, 5) for query in of_each]
    for removal in wanted:
        assert len(removal.training.songs) == len(CATALOG) - removal.size
    best = {CATALOG[i] for i in scores[1].argsort()[-5:]}
    assert set(CATALOG) - set(wanted[8].training.songs) == best
    assert len({removal.training.name for removal in wanted}) == len(wanted)


def test_sigmas_are_those_of_a_new_draw_against_the_random_removals(scores: np.ndarray) -> None:
    wanted = removals(BANK, scores, [0, 1, 2], [3], n_random=40)
    rng = np.random.default_rng(1)
    losses_RQ = 5 + np.array([0.1, 0.2, 0.3]) * rng.normal(size=(len(wanted), 3))
    for i, removal in enumerate(wanted):
        if removal.query >= 0:
            losses_RQ[i, removal.query] += 4 * (removal.query + 1) * 0.1
    (found,) = ablations(BANK, wanted, losses_RQ)
    lots = losses_RQ[:40]
    of_query_1 = losses_RQ[41, 1]
    expected = (of_query_1 - lots[:, 1].mean()) / (np.sqrt(lots[:, 1].var(ddof=1) * (1 + 1 / 40)))
    np.testing.assert_allclose(found.sigmas[1], expected)
    assert found.mean.value == pytest.approx(np.mean(found.sigmas))
    assert found.mean.value == pytest.approx(4, abs=2)
    assert (found.size, found.n_catalog) == (3, len(CATALOG))


def test_random_removals_themselves_are_worth_nothing_on_average() -> None:
    rng = np.random.default_rng(2)
    means = []
    for _ in range(200):
        wanted = removals(BANK, np.zeros((4, len(CATALOG))), [0, 1, 2, 3], [1], n_random=8)
        (found,) = ablations(BANK, wanted, rng.normal(size=(len(wanted), 4)))
        means.append(found.sigmas[0])
    # Student's t with 7 degrees of freedom.
    assert np.mean(means) == pytest.approx(0, abs=0.25)
    assert np.std(means) == pytest.approx(np.sqrt(7 / 5), rel=0.25)


@pytest.mark.parametrize(("sizes", "n_random"), [([0], 4), ([len(CATALOG)], 4), ([1], 1)])
def test_impossible_numbers_are_refused(scores: np.ndarray, sizes: list[int], n_random: int) -> None:
    with pytest.raises(UsageError):
        removals(BANK, scores, [0, 1, 2], sizes, n_random)
