"""Reliability of a matrix of scores: does each query have a ranking of its own?

Everything is computed from sums over rows, so that a matrix of millions of rows is read in parts, each once.

Source: Aria (arXiv:2605.16181, §3.2), whose four numbers are taken on raw scores, before any normalisation.

Shape legend: N = rows (segments or songs), Q = queries.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np

from lumina_ray.errors import UsageError

MAX_QUERIES = 10_000
"""The Gram matrix of so many queries takes 0.8 GB."""
COLLAPSED = 0.5
"""Collapse from which on a matrix is called collapsed: rankings then have as much in common as of their own."""
_NUMBERS_AT_ONCE = 1 << 24
# Eigenvalues of draws take some 4e8 multiplications; of more queries fewer draws are enough, as they scatter less.
_CHANCE_WORK, _CHANCE_DRAWS = 400_000_000, 100


@dataclass(frozen=True)
class ScoreSums:
    """Sums over some rows of a matrix of scores; sums over disjoint rows add up.

    Products are kept about the mean: a matrix that is almost constant loses no digits by it.

    Attributes:
        n_rows: N.
        mean_Q: float64 mean of each query's scores.
        products_QQ: float64 sums of products of two queries' scores, each less its mean.
        low_Q: smallest score of each query.
        high_Q: largest score of each query.
    """

    n_rows: int
    mean_Q: np.ndarray
    products_QQ: np.ndarray
    low_Q: np.ndarray
    high_Q: np.ndarray

    @classmethod
    def of(cls, scores_NQ: np.ndarray) -> "ScoreSums":
        """Sum a matrix, or some of its rows.

        Args:
            scores_NQ: raw scores `[N, Q]`, of any real type.

        Raises:
            UsageError: no rows, fewer than two queries or more than `MAX_QUERIES`, a score that is not finite, or
                scores whose squares no float64 can hold.
        """
        if scores_NQ.ndim != 2 or not len(scores_NQ):
            raise UsageError(f"scores have the shape {scores_NQ.shape}; a matrix [rows, queries] with rows is needed")
        if not 2 <= scores_NQ.shape[1] <= MAX_QUERIES:
            raise UsageError(
                f"scores of {scores_NQ.shape[1]} queries: queries are compared with each other, 2 to {MAX_QUERIES} are "
                "needed"
            )
        at_once = max(1, _NUMBERS_AT_ONCE // scores_NQ.shape[1])
        starts = range(0, len(scores_NQ), at_once)
        return reduce(cls.__add__, (cls._of_block(scores_NQ[start : start + at_once]) for start in starts))

    @classmethod
    def _of_block(cls, block_NQ: np.ndarray) -> "ScoreSums":
        block_NQ = block_NQ.astype(np.float64)
        if not np.isfinite(block_NQ).all():
            row, query = np.argwhere(~np.isfinite(block_NQ))[0]
            raise UsageError(
                f"the score in row {row}, query {query} is {block_NQ[row, query]}; leave out songs without scores"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            mean_Q = block_NQ.mean(axis=0)
            centred_NQ = block_NQ - mean_Q
            products_QQ = centred_NQ.T @ centred_NQ
            if not np.isfinite(products_QQ).all() or not np.isfinite(len(block_NQ) * mean_Q**2).all():
                raise UsageError("scores are so large that their squares are no numbers; divide all by one constant")
        return cls(len(block_NQ), mean_Q, products_QQ, block_NQ.min(axis=0), block_NQ.max(axis=0))

    def __add__(self, other: "ScoreSums") -> "ScoreSums":
        """Add the sums of other rows of the same matrix (Chan, Golub and LeVeque 1983)."""
        if len(self.mean_Q) != len(other.mean_Q):
            raise UsageError(f"parts of {len(self.mean_Q)} and {len(other.mean_Q)} queries are not of one matrix")
        n_rows = self.n_rows + other.n_rows
        step_Q = other.mean_Q - self.mean_Q
        return ScoreSums(
            n_rows,
            self.mean_Q + step_Q * (other.n_rows / n_rows),
            self.products_QQ + other.products_QQ + np.outer(step_Q, step_Q) * (self.n_rows * other.n_rows / n_rows),
            np.minimum(self.low_Q, other.low_Q),
            np.maximum(self.high_Q, other.high_Q),
        )

    def gram(self) -> np.ndarray:
        """Sums of products of two queries' scores as they are, SᵀS."""
        return self.products_QQ + self.n_rows * np.outer(self.mean_Q, self.mean_Q)

    def constant(self) -> np.ndarray:
        """Whether a query gives every row the same score."""
        return self.low_Q == self.high_Q


def sum_parts(parts: Iterable[np.ndarray]) -> ScoreSums:
    """Sum a matrix that comes in parts of rows. Equal parts in the same order give the same bits."""
    of_parts = map(ScoreSums.of, parts)
    first = next(of_parts, None)
    if first is None:
        raise UsageError("no scores at all: give at least one part")
    return reduce(ScoreSums.__add__, of_parts, first)


@dataclass(frozen=True)
class Diagnostics:
    """The numbers that say whether each query has a ranking of its own; all from 0 to 1, low is good.

    Attributes:
        kappa: κ̄, mean absolute correlation of two queries' scores. A query whose scores are all equal counts as
            correlated with every other by 1.
        r1: R₁, part of the sum of squares that the first singular vector carries, scores as they are.
        r2_5: R₂:₅, part that the next four carry together.
        c: mean over queries of the part of a query's squares that its mean makes up.
        r1_centred: R₁ of scores less each query's mean, 0 where nothing is left. A similarity of embeddings has an
            offset that changes no ranking, and that R₁ and c are full of; this has not.
        r2_5_centred: R₂:₅ of the same.
    """

    kappa: float
    r1: float
    r2_5: float
    c: float
    r1_centred: float
    r2_5_centred: float


def diagnostics(sums: ScoreSums) -> Diagnostics:
    """Compute the reliability of a matrix from its sums.

    Raises:
        UsageError: every score is 0.
    """
    squares_Q = np.diag(sums.gram())
    if not squares_Q.sum() > 0:
        raise UsageError("every score is 0: there is nothing to diagnose")
    of_mean_Q = sums.n_rows * sums.mean_Q**2
    # A query whose scores are all 0 is as constant as can be.
    c_Q = np.divide(of_mean_Q, squares_Q, out=np.ones_like(squares_Q), where=~sums.constant())
    raw, centred = energies(sums.gram()), energies(_without_constant(sums))
    return Diagnostics(
        kappa=_mean_absolute_correlation(sums),
        r1=float(raw[0]),
        r2_5=float(raw[1:5].sum()),
        c=float(c_Q.mean()),
        r1_centred=float(centred[0]),
        r2_5_centred=float(centred[1:5].sum()),
    )


@dataclass(frozen=True)
class Reliability:
    """Diagnostics of a matrix beside what chance gives.

    Attributes:
        rows, queries: size of the matrix.
        constant: queries that give every row the same score.
        found: what the matrix shows.
        chance: what independent normal scores of this size show on average (`chance`).
        spectrum: parts of the sum of squares that the first ten singular vectors carry.
    """

    rows: int
    queries: int
    constant: int
    found: Diagnostics
    chance: Diagnostics
    spectrum: tuple[float, ...]

    @property
    def collapse(self) -> float:
        """κ̄ on a scale on which chance is 0, and one ranking for all queries is 1."""
        return (self.found.kappa - self.chance.kappa) / (1 - self.chance.kappa)

    @property
    def collapsed(self) -> bool:
        """Whether queries' rankings have at least as much in common as of their own."""
        return self.collapse >= COLLAPSED


def judge(sums: ScoreSums, seed: int = 0) -> Reliability:
    """Diagnose a matrix by its sums.

    Raises:
        UsageError: every score is 0, or there are fewer than three rows, which always correlate by 1.
    """
    rows, queries = sums.n_rows, len(sums.mean_Q)
    if rows < 3:
        raise UsageError(f"scores of {rows} rows: rankings of fewer than 3 always agree or oppose each other")
    spectrum = tuple(float(part) for part in energies(sums.gram())[:10])
    constant = int(sums.constant().sum())
    return Reliability(rows, queries, constant, diagnostics(sums), chance(rows, queries, seed), spectrum)


def energies(gram_QQ: np.ndarray) -> np.ndarray:
    """Give the parts of the sum of squares that singular vectors carry, float64 `[Q]`, descending; 0 of nothing."""
    total = float(np.trace(gram_QQ))
    if total <= 0:
        return np.zeros(len(gram_QQ))
    return np.linalg.eigvalsh(gram_QQ / total)[::-1].clip(0)


def leading_axis(sums: ScoreSums) -> np.ndarray:
    """Give the first right singular vector v₁ of a matrix, float64 `[Q]` of length 1, whose largest part is positive.

    The first left one is `S v₁ / ‖S v₁‖`, and `S v₁ v₁ᵀ` is the rank-one component.
    """
    axis_Q = np.linalg.eigh(sums.gram() / np.trace(sums.gram()))[1][:, -1]
    return axis_Q * np.sign(axis_Q[np.abs(axis_Q).argmax()])


def without_axis(scores_NQ: np.ndarray, axis_Q: np.ndarray) -> np.ndarray:
    """Take the component along a unit vector off some rows of scores, float64 `[N, Q]`."""
    scores_NQ = scores_NQ.astype(np.float64)
    return scores_NQ - np.outer(scores_NQ @ axis_Q, axis_Q)


@cache
def chance(n_rows: int, n_queries: int, seed: int = 0) -> Diagnostics:
    """Say what independent normal scores would show, on average: the floor of each number at this size.

    Sums are drawn, and not scores: those of independent normal scores have a normal mean and a Wishart matrix of
    products, which Bartlett's decomposition draws at a cost that does not depend on N.

    Args:
        n_rows: N, at least 2.
        n_queries: Q, 2 to `MAX_QUERIES`.
        seed: of the draws; equal arguments give equal floors.
    """
    rng = np.random.default_rng((seed, n_rows, n_queries))
    draws = max(1, min(_CHANCE_DRAWS, _CHANCE_WORK // n_queries**3))
    found = [diagnostics(_random_sums(n_rows, n_queries, rng)) for _ in range(draws)]
    names = Diagnostics.__dataclass_fields__
    return Diagnostics(**{name: float(np.mean([getattr(one, name) for one in found])) for name in names})


def _mean_absolute_correlation(sums: ScoreSums) -> float:
    Q = len(sums.mean_Q)
    spread_Q = np.sqrt(np.diag(sums.products_QQ))
    known_Q = ~sums.constant() & (spread_Q > 0)
    safe_Q = np.where(known_Q, spread_Q, 1)
    absolute_QQ = np.abs(sums.products_QQ / safe_Q / safe_Q[:, None]).clip(0, 1)
    absolute_QQ[~known_Q] = absolute_QQ[:, ~known_Q] = 1
    return float((absolute_QQ.sum() - np.trace(absolute_QQ)) / (Q * (Q - 1)))


def _without_constant(sums: ScoreSums) -> np.ndarray:
    """Products about the mean, exactly 0 for queries whose scores are all equal, where rounding may leave a trace."""
    varies_Q = ~sums.constant()
    return sums.products_QQ * np.outer(varies_Q, varies_Q)


def _random_sums(n_rows: int, n_queries: int, rng: np.random.Generator) -> ScoreSums:
    freedom = n_rows - 1
    if freedom < n_queries:
        return ScoreSums.of(rng.standard_normal((n_rows, n_queries)))
    lower_QQ = np.tril(rng.standard_normal((n_queries, n_queries)), -1)
    lower_QQ[np.diag_indices(n_queries)] = np.sqrt(rng.chisquare(freedom - np.arange(n_queries)))
    mean_Q = rng.standard_normal(n_queries) / np.sqrt(n_rows)
    # No query is constant: any bounds that differ say so.
    return ScoreSums(n_rows, mean_Q, lower_QQ @ lower_QQ.T, np.full(n_queries, -1.0), np.ones(n_queries))
