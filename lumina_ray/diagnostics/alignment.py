"""Alignment: does the axis that dominates a matrix of scores follow a musical aspect?

Source: Aria (arXiv:2605.16181, §4.3). Its second number is R² or R, the formula being lost; here it is R².

Shape legend: N = songs, D = dimensions of all features of an aspect.
"""

from dataclasses import dataclass

import numpy as np

from lumina_ray.errors import UsageError

SONGS_PER_DIMENSION = 5
"""Plain least squares explains noise too: D / (N − 1) of it on average. Fewer songs a dimension are refused."""
FOLDS = 5
_RIDGES = np.geomspace(1e-4, 1e3, 15)


@dataclass(frozen=True)
class Alignment:
    """How well features of one aspect explain a number of each song.

    Attributes:
        correlation: ρ, the largest absolute correlation with any one dimension.
        correlation_chance: what ρ is on average when songs' numbers are shuffled.
        held_out: R² of ridge regression on songs that it was not fitted to; 0 or less means nothing is explained.
        held_out_chance: mean of the same when songs' numbers are shuffled.
        adjusted: R² of plain least squares, adjusted for its dimensions; None for fewer than `SONGS_PER_DIMENSION`
            songs a dimension.
        songs, dimensions: N and D.
    """

    correlation: float
    correlation_chance: float
    held_out: float
    held_out_chance: float
    adjusted: float | None
    songs: int
    dimensions: int


def alignment(y_N: np.ndarray, features_ND: np.ndarray, seed: int = 0, shuffles: int = 20) -> Alignment:
    """Measure how well features explain a number of each song.

    Args:
        y_N: such as the songs' first left singular vector.
        features_ND: all vector features of an aspect, side by side; every dimension varies.
        seed: of folds and shuffles.
        shuffles: how many shuffles give the floors.

    Raises:
        UsageError: fewer than 2 songs a fold, or numbers that are all equal.
    """
    N, D = features_ND.shape
    if N < 2 * FOLDS:
        raise UsageError(f"{N} songs cannot be divided into {FOLDS} folds of 2 or more; an alignment needs {2 * FOLDS}")
    if np.ptp(y_N) <= 1e-12 * np.abs(y_N).max():
        raise UsageError("the dominant axis is the same for all songs: nothing about it can be explained")
    rng = np.random.default_rng(seed)
    fold_N = rng.permutation(np.arange(N) % FOLDS)
    shuffled = [rng.permutation(y_N) for _ in range(shuffles)]
    held_out = held_out_r2(np.stack([y_N, *shuffled], axis=1), features_ND, fold_N)
    return Alignment(
        correlation=largest_correlation(y_N, features_ND),
        correlation_chance=float(np.mean([largest_correlation(one, features_ND) for one in shuffled])),
        held_out=float(held_out[0]),
        held_out_chance=float(held_out[1:].mean()),
        adjusted=adjusted_r2(y_N, features_ND) if N >= SONGS_PER_DIMENSION * D else None,
        songs=N,
        dimensions=D,
    )


def largest_correlation(y_N: np.ndarray, features_ND: np.ndarray) -> float:
    """Give the largest absolute correlation with any dimension."""
    y_N, x_ND = y_N - y_N.mean(), features_ND - features_ND.mean(axis=0)
    return float(np.abs(y_N @ x_ND / np.sqrt((y_N**2).sum() * (x_ND**2).sum(axis=0))).max())


def plain_r2(y_N: np.ndarray, features_ND: np.ndarray) -> float:
    """Compute R² of least squares with an intercept.

    Raises:
        UsageError: fewer than `SONGS_PER_DIMENSION` songs a dimension, where it would be high for any numbers.
    """
    N, D = features_ND.shape
    if N < SONGS_PER_DIMENSION * D:
        raise UsageError(
            f"R² of {D} dimensions over {N} songs would be high for any numbers: {SONGS_PER_DIMENSION * D} songs are "
            "needed; take the held-out R² instead"
        )
    y_N, x_ND = y_N - y_N.mean(), features_ND - features_ND.mean(axis=0)
    x_ND = x_ND / x_ND.std(axis=0)
    fitted_D = np.linalg.lstsq(x_ND, y_N, rcond=None)[0]
    return float(1 - ((y_N - x_ND @ fitted_D) ** 2).sum() / (y_N**2).sum())


def adjusted_r2(y_N: np.ndarray, features_ND: np.ndarray) -> float:
    """Compute R² of least squares less what it would be by chance: `1 − (1 − R²)(N − 1) / (N − D − 1)`.

    Raises:
        UsageError: as `plain_r2`.
    """
    N, D = features_ND.shape
    return 1 - (1 - plain_r2(y_N, features_ND)) * (N - 1) / (N - D - 1)


def held_out_r2(y_NY: np.ndarray, features_ND: np.ndarray, fold_N: np.ndarray) -> np.ndarray:
    """Compute R² of ridge regression for each of Y numbers of songs, each fold predicted from all others: `[Y]`.

    Dimensions are standardised over the songs that are fitted. The ridge is the one of fifteen, 1e-4 to 1e3 times the
    number of songs, with the smallest leave-one-out error on the songs that are fitted. The total is taken about the
    mean of the songs that are fitted.

    Args:
        fold_N: int, the fold of each song.
    """
    error_Y, total_Y = np.zeros(y_NY.shape[1]), np.zeros(y_NY.shape[1])
    for fold in np.unique(fold_N):
        held_N = fold_N == fold
        predicted_nY = _ridge(y_NY[~held_N], features_ND[~held_N], features_ND[held_N])
        error_Y += ((y_NY[held_N] - predicted_nY) ** 2).sum(axis=0)
        total_Y += ((y_NY[held_N] - y_NY[~held_N].mean(axis=0)) ** 2).sum(axis=0)
    return 1 - error_Y / total_Y


def _ridge(y_NY: np.ndarray, features_ND: np.ndarray, others_nD: np.ndarray) -> np.ndarray:
    """Fit songs, and give the predictions for others, float64 `[n, Y]`."""
    mean_Y, centre_D, spread_D = y_NY.mean(axis=0), features_ND.mean(axis=0), features_ND.std(axis=0)
    spread_D = np.where(spread_D > 0, spread_D, np.inf)
    U, s, Vt = np.linalg.svd((features_ND - centre_D) / spread_D, full_matrices=False)
    y_NY = y_NY - mean_Y
    projected = U.T @ y_NY
    # Without songs that differ, s may be 0, and nothing is then predicted but the mean.
    best, best_error_Y = np.zeros_like(projected), np.full(y_NY.shape[1], np.inf)
    for ridge in _RIDGES * len(y_NY):
        shrink = s**2 / (s**2 + ridge)
        # The intercept takes 1 / N of each song's own leverage.
        leverage_N = (U**2) @ shrink + 1 / len(y_NY)
        left_out_NY = (y_NY - U @ (shrink[:, None] * projected)) / (1 - leverage_N)[:, None]
        error_Y = (left_out_NY**2).sum(axis=0)
        better_Y = error_Y < best_error_Y
        best[:, better_Y] = ((s / (s**2 + ridge))[:, None] * projected)[:, better_Y]
        best_error_Y = np.minimum(best_error_Y, error_Y)
    return mean_Y + ((others_nD - centre_D) / spread_D) @ (Vt.T @ best)
