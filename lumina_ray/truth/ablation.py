"""Ablation: train once more without the songs that a method names, and see what becomes of the query.

The trainings depend on the method, so they are no part of a bank; the random removals that they are held against are
made from the bank's recipe alone. (Park et al. 2023, arXiv:2303.14186, §5, count predictions that flip; a loss moves
by degrees, so it is told in standard deviations of random removals, and a model that varies by itself is in these.)
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.errors import UsageError
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import members
from lumina_ray.truth.measures import Estimate, mean
from lumina_ray.truth.recipe import Training, without

PASS_SIGMAS = 2.0
"""The published pass mark: random removals' standard deviations by which the query must become harder to predict."""


@dataclass(frozen=True)
class Removal:
    """Catalog A without some songs.

    Attributes:
        query: position among the bank's queries of the one whose songs these are; −1 for songs drawn by lot.
        size: how many songs.
        training: the model to train.
    """

    query: int
    size: int
    training: Training


@dataclass(frozen=True)
class Ablation:
    """What removing a number of songs did, in standard deviations of random removals of as many.

    Attributes:
        size: songs removed, of `n_catalog`.
        sigmas: rise of the loss, one number a query.
        mean: of them, with its interval over queries.
    """

    size: int
    n_catalog: int
    sigmas: tuple[float, ...]
    mean: Estimate


def removals(
    bank: Bank, scores_QN: np.ndarray, queries: Sequence[int], sizes: Sequence[int], n_random: int
) -> list[Removal]:
    """Models to train: without every query's best songs, and as often as wanted without songs drawn by lot.

    Args:
        scores_QN: a row for each of `queries`, a column for each song of catalog A.
        queries: positions among the bank's queries.
        sizes: how many songs to remove.

    Raises:
        UsageError: fewer than two random removals, or more songs than the catalog has.
    """
    catalog = members(bank.recordings, "A")
    if n_random < 2:
        raise UsageError(f"{n_random} random removals have no spread; at least 2 are needed, 8 or more tell something")
    if not all(1 <= size < len(catalog) for size in sizes):
        raise UsageError(f"between 1 and {len(catalog) - 1} songs can be removed, not {', '.join(map(str, sizes))}")
    out = []
    for size in sizes:
        for number in range(n_random):
            lot = random.Random(f"removal {bank.recipe.seed} {size} {number}").sample(catalog, size)
            name = f"random-{size:02}-{number:03}"
            out.append(Removal(-1, size, without(bank.recipe, bank.recordings, name, set(lot))))
        for query, scores_N in zip(queries, scores_QN, strict=True):
            best = {catalog[i] for i in np.argsort(-scores_N, kind="stable")[:size]}
            name = f"best-{size:02}-{query:03}"
            out.append(Removal(query, size, without(bank.recipe, bank.recordings, name, best)))
    return out


def ablations(bank: Bank, done: Sequence[Removal], losses_RQ: np.ndarray) -> list[Ablation]:
    """What the removals did.

    Args:
        losses_RQ: of every query of the bank under every model of `done`, in nats per code.
    """
    out = []
    for size in sorted({removal.size for removal in done}):
        lots = [i for i, removal in enumerate(done) if removal.size == size and removal.query < 0]
        expected_Q, spread_Q = losses_RQ[lots].mean(axis=0), losses_RQ[lots].std(axis=0, ddof=1)
        # A new observation against a mean of n: its own variance, and the mean's.
        spread_Q = spread_Q * np.sqrt(1 + 1 / len(lots))
        sigmas = [
            float((losses_RQ[i, removal.query] - expected_Q[removal.query]) / spread_Q[removal.query])
            for i, removal in enumerate(done)
            if removal.size == size and removal.query >= 0
        ]
        out.append(Ablation(size, len(members(bank.recordings, "A")), tuple(sigmas), mean(np.array(sigmas))))
    return out
