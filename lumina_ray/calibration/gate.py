"""The gate: p-values of standard scores, by controls. It says whether anything is a near copy, and of what.

A song's score for a query is the mean of its standard scores in all channels that the query has
(`lumina_ray.calibration.standard`). Channels are two rights in one recording, and a near copy is alike in both: one
test on both finds more than two tests, and needs no correction for being two.

Two questions, two nulls, both from controls: music that the model never saw.

**Is this one song closer than chance?** (`p_value`) The scores of all controls for all N songs, pooled. It says nothing
of how many songs were searched: of a million unrelated songs 50 000 have p ≤ 0.05. Where several songs stand out, these
p-values make the list, by `q_values` (Benjamini & Hochberg 1995): of the songs listed at q ≤ 0.05, 5 % are there by
chance, on average over queries and with empty lists counted as free of chance. When an unrelated query does get a list,
all of it is chance.

**Is the best of N songs closer than chance?** (`family_wise_p`) Each control is put through the query's search and
leaves its best score. If the query is exchangeable with the controls, its best score is as likely to be the largest
of the C + 1 as any other, so `p = (1 + #{control maxima ≥ t}) / (C + 1)` is right at any catalog size and under any
dependence between songs and channels (a conformal p-value; over all candidates, Westfall and Young's single-step maxT).
This one decides whether there is anything at all. Its floor is 1 / (C + 1); what lies beyond the floor is extrapolated
by a generalised Pareto tail of the pooled scores (Pickands 1975), labelled so, and decides nothing.

What it is not: exchangeability is an assumption. Music made by the audited model may resemble the whole catalog more,
or less, than the controls do; `ChannelCalibration.bulk_p` shows when it does, and the report then says so.

C = controls, N = catalog songs.
"""

import math
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lumina_ray.calibration.controls import ALPHA, Guarantee, bar_rank, controls_needed
from lumina_ray.errors import UsageError

_NULL_POINTS = 1000
# The tail is fitted to this fraction of the pooled scores, and to no fewer than this number.
_TAIL_FRACTION, _MIN_TAIL = 0.005, 50


class Gate(BaseModel):
    """The null of standard scores. Lists are sorted descending."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    guarantee: Guarantee = Field(description="What the bar promises of unrelated tracks: mean or tolerance.")
    n_controls: int = Field(description="Control tracks, C.")
    n_songs: int = Field(description="Catalog songs searched, N.")
    null_ranks: tuple[int, ...] = Field(
        description="Ranks, from the largest, of the pooled scores that `null_values` keeps: every one in the tail, "
        "and steps of about 1 % elsewhere."
    )
    null_values: tuple[float, ...] = Field(description="Pooled scores at `null_ranks`.")
    control_maxima: tuple[float, ...] = Field(description="Each control's largest score.")
    tail_fraction: float = Field(description="Fraction of the pooled scores, the largest, that the tail is fitted to.")
    tail_start: float = Field(description="Score above which the fitted ones lie.")
    tail_scale: float = Field(description="Scale of a generalised Pareto fit (L-moments); for extrapolation only.")
    tail_shape: float = Field(
        description="Shape of the fit, at least 0: a tail with an end would call larger scores impossible."
    )

    @cached_property
    def _null(self) -> tuple[np.ndarray, np.ndarray]:
        """`null_values` and `null_ranks`."""
        return np.array(self.null_values), np.array(self.null_ranks)

    @cached_property
    def _null_p(self) -> tuple[np.ndarray, np.ndarray]:
        """The null's values, negated, and p by how many of them lie at or above a score."""
        values, ranks = self._null
        # Between two kept ranks the count is unknown: take the larger, so that p errs upwards, by 1 % at most.
        count = np.append(ranks, ranks[-1] + 1) - 1
        return -values, (1 + count) / (1 + ranks[-1])

    @property
    def resolution(self) -> float:
        """The smallest family-wise p-value that C controls can show."""
        return 1 / (self.n_controls + 1)

    def p_value(self, score: np.ndarray) -> np.ndarray:
        """P-value of one song chosen before looking: the fraction of control–song pairs with at least this score."""
        ascending, p_of_kept = self._null_p
        return p_of_kept[np.searchsorted(ascending, -np.asarray(score, dtype=np.float64), side="right")]

    def family_wise_p(self, score: np.ndarray) -> np.ndarray:
        """P-value of the best of N songs: fraction of controls and query whose best score is at least this good."""
        maxima = np.array(self.control_maxima)
        at_least = np.searchsorted(-maxima, -np.asarray(score, dtype=np.float64), side="right")
        return (1 + at_least) / (self.n_controls + 1)

    def q_values(self, score: np.ndarray) -> np.ndarray:
        """False-discovery rates at which a search of all songs would list each of its best ones.

        Args:
            score: of the songs that the search found; those that it left out are taken to be no better.
        """
        p = self.p_value(score)
        order = np.argsort(p, kind="stable")
        rising = p[order] * self.n_songs / np.arange(1, len(p) + 1)
        q = np.empty(len(p))
        q[order] = np.minimum(np.minimum.accumulate(rising[::-1])[::-1], 1.0)
        return q

    def value_at(self, p: float) -> float:
        """The score that a song must exceed for `p_value ≤ p`; infinite where none would do."""
        values, ranks = self._null
        # Above the value of rank r lie at most r − 1 pairs.
        enough = np.flatnonzero(ranks <= p * (1 + ranks[-1]) * (1 + 1e-12))
        return float(values[enough[-1]]) if enough.size else math.inf

    def extrapolated_p(self, score: float) -> float | None:
        """Extrapolated p-value of the best of N songs, beyond all control maxima: N times the tail of one song.

        None where `family_wise_p` has not reached its floor.
        """
        if score <= self.control_maxima[0] or self.tail_scale == 0:
            return None
        one = self.tail_fraction * _pareto_tail(score - self.tail_start, self.tail_scale, self.tail_shape)
        return min(self.n_songs * one, self.resolution)

    def critical(self, alpha: float = ALPHA) -> float:
        """The score that a song must exceed: for `family_wise_p ≤ alpha`, or less where the guarantee asks for it.

        Raises:
            UsageError: alpha is below what this many controls can show.
        """
        rank = bar_rank(self.n_controls, alpha, self.guarantee)
        if rank < 1:
            needed = controls_needed(1, alpha, self.guarantee)
            raise UsageError(f"alpha {alpha} needs at least {needed} controls, got {self.n_controls}")
        return self.control_maxima[rank - 1]

    def error_rate(self, alpha: float = ALPHA) -> float:
        """The probability that an unrelated track has any song above the bar, on average over draws of controls."""
        return bar_rank(self.n_controls, alpha, self.guarantee) / (self.n_controls + 1)


def gate_of(score_CN: np.ndarray, guarantee: Guarantee = "mean") -> Gate:
    """Make the gate of controls' scores for all songs.

    Args:
        score_CN: float64, sorted in place.
    """
    c, n = score_CN.shape
    maxima = np.sort(score_CN.max(axis=1))[::-1]
    pooled = score_CN.reshape(-1)
    pooled.sort()
    pooled = pooled[::-1]
    ranks = np.unique(np.geomspace(1, pooled.size, _NULL_POINTS).round().astype(np.int64))
    n_tail = min(max(round(_TAIL_FRACTION * pooled.size), _MIN_TAIL), pooled.size - 1)
    tail_scale, tail_shape = _fit_pareto(pooled[:n_tail] - pooled[n_tail])
    return Gate(
        guarantee=guarantee,
        n_controls=c,
        n_songs=n,
        null_ranks=tuple(ranks.tolist()),
        null_values=tuple(pooled[ranks - 1].tolist()),
        control_maxima=tuple(maxima.tolist()),
        tail_fraction=n_tail / pooled.size,
        tail_start=float(pooled[n_tail]),
        tail_scale=tail_scale,
        tail_shape=tail_shape,
    )


def _fit_pareto(excesses_descending: np.ndarray) -> tuple[float, float]:
    """Scale and shape ≥ 0 of a generalised Pareto distribution by L-moments (Hosking & Wallis 1987, §2)."""
    ascending = excesses_descending[::-1]
    n = len(ascending)
    first = float(ascending.mean())
    second = float(2 * (np.arange(n) / (n - 1) * ascending).mean() - first)
    if second <= 0:
        return 0.0, 0.0
    shape = 2 - first / second
    # A tail with an end is replaced by the exponential one with its mean.
    return (first * (1 - shape), shape) if shape > 0 else (first, 0.0)


def _pareto_tail(excess: float, scale: float, shape: float) -> float:
    """The part of a generalised Pareto distribution above an excess."""
    if shape == 0:
        return math.exp(-excess / scale)
    return math.exp(-math.log1p(shape * excess / scale) / shape)
