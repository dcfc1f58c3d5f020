"""Ablation: train once more without the songs that a method names, and see what becomes of the query.

The trainings depend on the method, so they are no part of a bank; the random removals that they are compared with are
made from the bank's recipe alone. (Park et al. 2023, arXiv:2303.14186, §5, count predictions that flip. A loss moves
by degrees, so it is told in standard deviations of random removals, which hold how much a model varies by itself.)

Shape legend: L random removals, Q queries, R trained models.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.errors import UsageError
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import members
from lumina_ray.truth.measures import Estimate, bootstrap
from lumina_ray.truth.queries import QueryKind
from lumina_ray.truth.recipe import Training, without

MIN_RANDOM_REMOVALS = 5
"""Fewer random removals have no spread to speak of."""
ABLATED: tuple[QueryKind, ...] = ("excerpt", "generated")
"""Kinds of queries whose best songs are left out."""


@dataclass(frozen=True)
class Removal:
    """Catalog A without some songs.

    Attributes:
        query: position, among the bank's queries, of the one whose best songs are removed; −1 for random songs.
        size: how many songs.
        training: the model to train.
    """

    query: int
    size: int
    training: Training


@dataclass(frozen=True)
class Ablation:
    """The rise of losses when a number of songs is removed, in standard deviations of random removals of as many.

    Attributes:
        size: songs removed, of `n_catalog`.
        kind: of the queries.
        sigmas: rise of the loss, one number a query.
        mean: of them; its interval is over queries and over random removals, both drawn again.
    """

    size: int
    n_catalog: int
    kind: QueryKind
    sigmas: tuple[float, ...]
    mean: Estimate


def removals(
    bank: Bank, scores_QN: np.ndarray, queries: Sequence[int], sizes: Sequence[int], n_random: int
) -> list[Removal]:
    """List the models to train: without every query's best songs, and as often as wanted without random songs.

    Args:
        scores_QN: a row for each of `queries`, a column for each song of catalog A.
        queries: positions among the bank's queries.
        sizes: how many songs to remove.

    Raises:
        UsageError: fewer than `MIN_RANDOM_REMOVALS`, or more songs than the catalog has.
    """
    catalog = members(bank.recordings, "A")
    if n_random < MIN_RANDOM_REMOVALS:
        raise UsageError(
            f"{n_random} random removals have no spread to speak of; at least {MIN_RANDOM_REMOVALS} are needed"
        )
    if not all(1 <= size < len(catalog) for size in sizes):
        raise UsageError(f"between 1 and {len(catalog) - 1} songs can be removed, not {', '.join(map(str, sizes))}")
    out = []
    for size in sorted(set(sizes)):
        for number in range(n_random):
            drawn = random.Random(f"removal {bank.recipe.seed} {size} {number}").sample(catalog, size)
            name = f"random-{size:02}-{number:03}"
            out.append(Removal(-1, size, without(bank.recipe, bank.recordings, name, set(drawn))))
        for query, scores_N in zip(queries, scores_QN, strict=True):
            best = {catalog[i] for i in np.argsort(-scores_N, kind="stable")[:size]}
            name = f"best-{size:02}-{query:03}"
            out.append(Removal(query, size, without(bank.recipe, bank.recordings, name, best)))
    return out


def ablations(bank: Bank, done: Sequence[Removal], losses_RQ: np.ndarray) -> list[Ablation]:
    """Compare removals of best songs with random ones, for each number of songs and kind of query.

    Args:
        losses_RQ: of every query of the bank under every model of `done`, in nats per code.
    """
    out = []
    for size, kind in sorted({(r.size, bank.queries[r.query].kind) for r in done if r.query >= 0}):
        at_random = np.array([i for i, r in enumerate(done) if r.size == size and r.query < 0])
        best = [(i, r.query) for i, r in enumerate(done) if r.size == size and r.query >= 0]
        best_i, query = np.array([(i, q) for i, q in best if bank.queries[q].kind == kind]).T
        random_LQ, best_Q = losses_RQ[np.ix_(at_random, query)], losses_RQ[best_i, query]

        def draw(rng: np.random.Generator, random_LQ: np.ndarray = random_LQ, best_Q: np.ndarray = best_Q) -> float:
            L, Q = random_LQ.shape
            of = rng.integers(Q, size=Q)
            again_LQ = random_LQ[rng.integers(L, size=L)][:, of]
            # The scale stays: a draw that repeats a few removals has none.
            return float(((best_Q[of] - again_LQ.mean(axis=0)) / _spread(random_LQ)[of]).mean())

        sigmas = (best_Q - random_LQ.mean(axis=0)) / _spread(random_LQ)
        estimate = bootstrap(float(sigmas.mean()), draw)
        out.append(Ablation(size, len(members(bank.recordings, "A")), kind, tuple(sigmas.tolist()), estimate))
    return out


def sentence(found: Ablation) -> str:
    """Say it for people."""
    return (
        f"{found.size} of {found.n_catalog} songs left out: loss of {len(found.sigmas)} {found.kind} queries "
        f"{found.mean} σ above random removals"
    )


def _spread(random_LQ: np.ndarray) -> np.ndarray:
    """Standard deviation of a new removal against the mean of the random ones: its own variance, and the mean's."""
    return random_LQ.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(random_LQ))
