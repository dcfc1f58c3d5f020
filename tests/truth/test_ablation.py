"""Ablation against losses whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lumina_ray.errors import UsageError
from lumina_ray.truth.ablation import ablations, removals
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL
from tests.truth.small_bank import small_bank

RECORDINGS = corpus(0)
CATALOG = members(RECORDINGS, "A")
RECIPE = replace(SMALL, subsets=1, repeats=0)
CODES = torch.zeros(4, 1, dtype=torch.int64)
QUERIES = [Query("generated" if i == 2 else "excerpt", "A", -1, "test", CODES) for i in range(10)]
BANK = small_bank(RECIPE, RECORDINGS, [CODES], QUERIES)


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, len(CATALOG)))


def test_the_best_songs_of_each_query_are_left_out_and_nothing_else(scores: np.ndarray) -> None:
    wanted = removals(BANK, scores, [4, 7, 9], [5, 1, 5], n_random=5)
    of_each = [-1] * 5 + [4, 7, 9]
    assert [(r.size, r.query) for r in wanted] == [(size, query) for size in (1, 5) for query in of_each]
    for removal in wanted:
        assert len(removal.training.songs) == len(CATALOG) - removal.size
    best = {CATALOG[i] for i in scores[1].argsort()[-5:]}
    assert set(CATALOG) - set(wanted[14].training.songs) == best
    assert len({removal.training.name for removal in wanted}) == len(wanted)


def test_sigmas_are_those_of_a_new_draw_against_the_random_removals(scores: np.ndarray) -> None:
    wanted = removals(BANK, scores, [0, 1, 2], [3], n_random=40)
    rng = np.random.default_rng(1)
    losses_RQ = 5 + np.tile([0.1, 0.2, 0.3], 4)[:10] * rng.normal(size=(len(wanted), 10))
    for i, removal in enumerate(wanted):
        if removal.query >= 0:
            losses_RQ[i, removal.query] += 4 * (removal.query + 1) * 0.1
    excerpts, generated = ablations(BANK, wanted, losses_RQ)
    assert (excerpts.kind, len(excerpts.sigmas)) == ("excerpt", 2)
    assert (generated.kind, len(generated.sigmas)) == ("generated", 1)
    at_random = losses_RQ[:40]
    expected = (losses_RQ[41, 1] - at_random[:, 1].mean()) / np.sqrt(at_random[:, 1].var(ddof=1) * (1 + 1 / 40))
    np.testing.assert_allclose(excerpts.sigmas[1], expected)
    assert excerpts.mean.value == pytest.approx(np.mean(excerpts.sigmas))
    assert excerpts.mean.value == pytest.approx(4, abs=2)
    assert (excerpts.size, excerpts.n_catalog) == (3, len(CATALOG))


def test_intervals_hold_the_random_removals_that_all_queries_share() -> None:
    """Removals that do nothing: the interval must cover 0 about as often as it says, although queries are alike."""
    rng = np.random.default_rng(2)
    wanted = removals(BANK, np.zeros((8, len(CATALOG))), [0, 1, 3, 4, 5, 6, 7, 8], [1], n_random=12)
    covered = []
    for _ in range(60):
        shared = rng.normal(size=(len(wanted), 1))
        (found,) = ablations(BANK, wanted, shared + rng.normal(size=(len(wanted), 10)))
        covered.append(found.mean.low <= 0 <= found.mean.high)
    assert np.mean(covered) > 0.8


@pytest.mark.parametrize(("sizes", "n_random"), [([0], 8), ([len(CATALOG)], 8), ([1], 4)])
def test_impossible_numbers_are_refused(scores: np.ndarray, sizes: list[int], n_random: int) -> None:
    with pytest.raises(UsageError):
        removals(BANK, scores, [0, 1, 2], sizes, n_random)
