"""Measures of how well scores agree with retraining, each with a bootstrap interval.

Shape legend: R = retrained models, Q = queries, N = songs, n = bootstrap draws (`DRAWS`).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

DRAWS = 1000
MIN_EFFECTIVE_QUERIES = 10
"""With fewer, a mean over queries is that of a handful, however many there are."""


@dataclass(frozen=True)
class Estimate:
    """A mean and the central 95 % of its bootstrap distribution."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Resampled:
    """A value, and what it is in each bootstrap draw: float64 `[n]`.

    The difference of two values that share their draws has the interval of a paired bootstrap.
    """

    value: float
    draws_n: np.ndarray

    @property
    def estimate(self) -> Estimate:
        """The value with the central 95 % of its draws."""
        low, high = np.quantile(self.draws_n, [0.025, 0.975])
        return Estimate(self.value, float(low), float(high))

    def __sub__(self, other: "Resampled") -> "Resampled":
        return Resampled(self.value - other.value, self.draws_n - other.draws_n)


@dataclass(frozen=True)
class Draws:
    """How often each model, float32 `[n, R]`, and each query, float64 `[n, Q]`, is in each bootstrap draw."""

    models_nR: np.ndarray
    queries_nQ: np.ndarray


def draw_again(n_models: int, clusters: Sequence[Hashable], seed: int = 0) -> Draws:
    """Draw retrained models and queries again, with replacement; equal arguments give equal draws.

    Args:
        clusters: one name for each query: queries of one cluster are drawn together.
    """
    numbers: dict[Hashable, int] = {}
    of_Q = [numbers.setdefault(name, len(numbers)) for name in clusters]
    rng, models, queries = np.random.default_rng(seed), [], []
    for _ in range(DRAWS):
        models.append(np.bincount(rng.integers(n_models, size=n_models), minlength=n_models))
        queries.append(np.bincount(rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers))[of_Q])
    return Draws(np.array(models, np.float32), np.array(queries, np.float64))


def effective_queries(losses_RQ: np.ndarray) -> float:
    """How many queries that have nothing to do with each other would be worth as much: from 0 to min(R − 1, Q).

    The participation ratio `(Σλ)² / Σλ²` of the eigenvalues λ of the queries' correlation over retrained models: 1
    where all queries rise and fall together, Q where each does so by itself; 0 where none moves. How much a query moves
    does not count, as it does not in a rank correlation.
    """
    x_RQ = losses_RQ - losses_RQ.mean(axis=0)
    spread_Q = x_RQ.std(axis=0)
    x_RQ = x_RQ / np.where(spread_Q > 0, spread_Q, 1)
    # Sums of eigenvalues and of their squares are traces, which the smaller of two Gram matrices has as well.
    gram = x_RQ @ x_RQ.T if len(x_RQ) < x_RQ.shape[1] else x_RQ.T @ x_RQ
    squares = float((gram**2).sum())
    return float(np.trace(gram)) ** 2 / squares if squares > 0 else 0.0


def datamodel_scores(scores_QN: np.ndarray, masks_RN: np.ndarray, losses_RQ: np.ndarray) -> np.ndarray:
    """Linear datamodeling score of every query, float64 `[Q]` (Park et al. 2023, arXiv:2303.14186, Definition 2.3).

    The rank correlation, over retrained models, of the summed scores of the songs that a model was trained on with how
    well it predicts the query.

    Args:
        scores_QN: of every song for every query, larger for more influence.
        masks_RN: bool, the songs that each model was trained on.
        losses_RQ: of every query under each model.
    """
    return _columnwise_spearman(masks_RN.astype(np.float64) @ scores_QN.T, -losses_RQ)


def lds(scores_QN: np.ndarray, masks_RN: np.ndarray, losses_RQ: np.ndarray, seed: int = 0) -> Estimate:
    """Mean linear datamodeling score; its interval is over queries and over retrained models, both drawn again."""
    R, Q = losses_RQ.shape
    return lds_in_draws(scores_QN, masks_RN, losses_RQ, draw_again(R, range(Q), seed)).estimate


def lds_in_draws(scores_QN: np.ndarray, masks_RN: np.ndarray, losses_RQ: np.ndarray, draws: Draws) -> Resampled:
    """Mean linear datamodeling score, in given draws of models and queries."""
    predicted_RQ = masks_RN.astype(np.float64) @ scores_QN.T
    value = float(_columnwise_spearman(predicted_RQ, -losses_RQ).mean())
    columns = zip(predicted_RQ.T, -losses_RQ.T, strict=True)
    of_draws_nQ = np.stack([_spearman_of_draws(x_R, y_R, draws.models_nR) for x_R, y_R in columns], axis=1)
    return Resampled(value, (of_draws_nQ * draws.queries_nQ).sum(axis=1) / draws.queries_nQ.sum(axis=1))


def mean(values_W: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of independent values, such as one of each work; its interval is over them."""

    def draw(rng: np.random.Generator) -> float:
        return float(values_W[rng.integers(len(values_W), size=len(values_W))].mean())

    return bootstrap(float(values_W.mean()), draw, seed)


def precedence(ahead: np.ndarray, behind: np.ndarray) -> float:
    """Probability that a first score is above a second one; ties count half (the area under the ROC curve)."""
    return float((np.sign(ahead[:, None] - behind[None, :]).mean() + 1) / 2)


def bootstrap(value: float, draw: Callable[[np.random.Generator], float], seed: int = 0) -> Estimate:
    """A value with the central 95 % of draws of it."""
    rng = np.random.default_rng(seed)
    return Resampled(value, np.array([draw(rng) for _ in range(DRAWS)])).estimate


def _columnwise_spearman(x_RQ: np.ndarray, y_RQ: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of corresponding columns; 0 where one of them is constant."""
    x_RQ, y_RQ = (rankdata(values, axis=0) for values in (x_RQ, y_RQ))
    x_RQ, y_RQ = x_RQ - x_RQ.mean(axis=0), y_RQ - y_RQ.mean(axis=0)
    norms_Q = np.sqrt((x_RQ**2).sum(axis=0) * (y_RQ**2).sum(axis=0))
    return np.divide((x_RQ * y_RQ).sum(axis=0), norms_Q, out=np.zeros_like(norms_Q), where=norms_Q > 0)


def _spearman_of_draws(x_R: np.ndarray, y_R: np.ndarray, counts_nR: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation in each draw, float64 `[n]`, given how often each element is in it."""
    # Twice an element's rank, less the mean rank: how many others of the draw are below it, less how many are above it.
    # Whole numbers, as are sums of their products: float32 holds them exactly for 256 elements, and is much faster.
    x_nR, y_nR = (counts_nR @ np.sign(values_R - values_R[:, None]).astype(np.float32) for values_R in (x_R, y_R))
    weighted_nR = counts_nR * x_nR
    products_n, xx_n, yy_n = (
        np.einsum("nr,nr->n", one, other).astype(np.float64)
        for one, other in ((weighted_nR, y_nR), (weighted_nR, x_nR), (counts_nR * y_nR, y_nR))
    )
    norms_n = np.sqrt(xx_n * yy_n)
    return np.divide(products_n, norms_n, out=np.zeros_like(norms_n), where=norms_n > 0)
