"""Measures of how well scores agree with retraining, each with a bootstrap interval.

Shape legend: R = retrained models, Q = queries, N = songs.
"""

from collections.abc import Callable
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


def effective_queries(losses_RQ: np.ndarray) -> float:
    """How many queries that have nothing to do with each other would be worth as much: from 0 to min(R − 1, Q).

    The participation ratio `(Σλ)² / Σλ²` of the eigenvalues λ of the queries' covariance over retrained models: 1 where
    all queries rise and fall together, Q where each does so by itself and all as much; 0 where none moves.
    """
    x_RQ = losses_RQ - losses_RQ.mean(axis=0)
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
    predicted_RQ = masks_RN.astype(np.float64) @ scores_QN.T
    R, Q = predicted_RQ.shape

    def draw(rng: np.random.Generator) -> float:
        where = np.ix_(rng.integers(R, size=R), rng.integers(Q, size=Q))
        return float(_columnwise_spearman(predicted_RQ[where], -losses_RQ[where]).mean())

    return bootstrap(float(_columnwise_spearman(predicted_RQ, -losses_RQ).mean()), draw, seed)


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
    low, high = np.quantile([draw(rng) for _ in range(DRAWS)], [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _columnwise_spearman(x_RQ: np.ndarray, y_RQ: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of corresponding columns; 0 where one of them is constant."""
    x_RQ, y_RQ = (rankdata(values, axis=0) for values in (x_RQ, y_RQ))
    x_RQ, y_RQ = x_RQ - x_RQ.mean(axis=0), y_RQ - y_RQ.mean(axis=0)
    norms_Q = np.sqrt((x_RQ**2).sum(axis=0) * (y_RQ**2).sum(axis=0))
    return np.divide((x_RQ * y_RQ).sum(axis=0), norms_Q, out=np.zeros_like(norms_Q), where=norms_Q > 0)
