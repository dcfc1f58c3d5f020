"""The empirical null of one channel, and the p-values that come from it.

Two questions, two nulls, both from controls: music that the model never saw.

**Is this one song closer than chance?** (`p_value`) All C × N control–song similarities, pooled. It says nothing of
how many songs were searched: of a million unrelated songs 50 000 have p ≤ 0.05. Where several songs stand out, these
p-values make the list, by `q_values` (Benjamini & Hochberg 1995): of the songs listed at q ≤ 0.05, 5 % are there by
chance, on average over queries and with empty lists counted as free of chance. When an unrelated query does get a list,
all of it is chance.

**Is the best of N songs closer than chance?** (`family_wise_p`) Each control is put through the query's search and
leaves its best match. If the query is exchangeable with the controls, its best match is as likely to be the largest
of the C + 1 as any other, so `p = (1 + #{control maxima ≥ s}) / (C + 1)` is exact at any catalog size and under any
dependence between songs (a conformal p-value; over all candidates, Westfall and Young's single-step maxT). This one
decides whether there is anything at all. Its floor is 1 / (C + 1); what lies beyond the floor is extrapolated by a
generalised Pareto tail of the pooled similarities (Pickands 1975), labelled so, and decides nothing.

Both are taken on the **adjusted similarity**: similarity minus the song's mean similarity to the rest of the catalog.
Any function of the catalog alone leaves the conformal p-value exact; this one keeps a hub (a song that resembles
everything) from raising the bar for all other songs and from being every unlucky query's match.

What it is not: exchangeability is an assumption. Music made by the audited model may resemble the whole catalog more,
or less, than the controls do; `bulk_p` shows when it does, and the report then says so.

C = controls, N = catalog songs, D = fingerprint dimensions.
"""

import math
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lumina_ray.calibration.numerics import use_one_blas_thread
from lumina_ray.calibration.vectors import blocks, check_unit_rows, song_means
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError

ALPHA = 0.05
# 1 / (C + 1) ≤ ALPHA needs 19; fewer could never qualify anything.
MIN_CONTROLS = 20
_NULL_POINTS = 1000
# The tail is fitted to this fraction of the pooled similarities, and to no fewer than this number.
_TAIL_FRACTION, _MIN_TAIL = 0.005, 50
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# Where the published rules qualify a song: v8's three levels, and v7's confidence erf(z/√2) = 95 %.
_PUBLISHED_Z = (1.0, 1.959964, 2.0, 3.0)


class ChannelCalibration(BaseModel):
    """The null of one channel. All similarities are inner products of unit vectors; lists are sorted descending."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n_controls: int = Field(description="Control tracks, C.")
    n_songs: int = Field(description="Catalog songs searched, N.")
    dims: int = Field(description="Fingerprint dimensions, D.")
    mean: float = Field(description="μ of all C × N similarities.")
    std: float = Field(description="σ of all C × N similarities (population form).")
    similarity_quantiles: dict[str, float] = Field(description="Quantiles of all C × N similarities.")
    exceedance: dict[str, float] = Field(
        description="z → fraction of all C × N pairs, unrelated by construction, at or above μ + zσ."
    )
    null_ranks: tuple[int, ...] = Field(
        description="Ranks, from the largest, of the pooled adjusted similarities that `null_values` keeps: every one "
        "in the tail, and steps of about 1 % elsewhere."
    )
    null_values: tuple[float, ...] = Field(description="Pooled adjusted similarities at `null_ranks`.")
    control_maxima: tuple[float, ...] = Field(description="Each control's largest adjusted similarity.")
    control_maxima_similarity: tuple[float, ...] = Field(description="Each control's largest similarity.")
    control_means: tuple[float, ...] = Field(description="Each control's mean similarity to the catalog.")
    tail_fraction: float = Field(
        description="Fraction of the pooled adjusted similarities, the largest, that the tail is fitted to."
    )
    tail_start: float = Field(description="Adjusted similarity above which the fitted ones lie.")
    tail_scale: float = Field(description="Scale of a generalised Pareto fit (L-moments); for extrapolation only.")
    tail_shape: float = Field(
        description="Shape of the fit, at least 0: a tail with an end would call larger similarities impossible."
    )

    @cached_property
    def _null(self) -> tuple[np.ndarray, np.ndarray]:
        """`null_values` and `null_ranks`."""
        return np.array(self.null_values), np.array(self.null_ranks)

    @cached_property
    def _null_p(self) -> tuple[np.ndarray, np.ndarray]:
        """The null's values, negated, and p by how many of them lie at or above a similarity."""
        values, ranks = self._null
        # Between two kept ranks the count is unknown: take the larger, so that p errs upwards, by 1 % at most.
        count = np.append(ranks, ranks[-1] + 1) - 1
        return -values, (1 + count) / (1 + ranks[-1])

    @property
    def resolution(self) -> float:
        """The smallest family-wise p-value that C controls can show."""
        return 1 / (self.n_controls + 1)

    def z(self, similarity: np.ndarray) -> np.ndarray:
        """The published `(s − μ) / σ`."""
        return (np.asarray(similarity, dtype=np.float64) - self.mean) / self.std

    def p_value(self, adjusted: np.ndarray) -> np.ndarray:
        """P-value of one song chosen before looking: the fraction of control–song pairs at least this similar."""
        ascending, p_of_kept = self._null_p
        return p_of_kept[np.searchsorted(ascending, -np.asarray(adjusted, dtype=np.float64), side="right")]

    def family_wise_p(self, adjusted: np.ndarray) -> np.ndarray:
        """P-value of the best of N songs: fraction of controls and query whose best match is at least this good."""
        maxima = np.array(self.control_maxima)
        at_least = np.searchsorted(-maxima, -np.asarray(adjusted, dtype=np.float64), side="right")
        return (1 + at_least) / (self.n_controls + 1)

    def q_values(self, adjusted: np.ndarray) -> np.ndarray:
        """False-discovery rates at which a search of all songs would list each of its best ones.

        Args:
            adjusted: of the songs that the search found; those that it left out are taken to be no better.
        """
        p = self.p_value(adjusted)
        order = np.argsort(p, kind="stable")
        rising = p[order] * self.n_songs / np.arange(1, len(p) + 1)
        q = np.empty(len(p))
        q[order] = np.minimum(np.minimum.accumulate(rising[::-1])[::-1], 1.0)
        return q

    def value_at(self, p: float) -> float:
        """The adjusted similarity that a song must exceed for `p_value ≤ p`; infinite where none would do."""
        values, ranks = self._null
        # Above the value of rank r lie at most r − 1 pairs.
        enough = np.flatnonzero(ranks <= p * (1 + ranks[-1]) * (1 + 1e-12))
        return float(values[enough[-1]]) if enough.size else math.inf

    def extrapolated_p(self, adjusted: float) -> float | None:
        """Extrapolated p-value of the best of N songs, beyond all control maxima: N times the tail of one song.

        None where `family_wise_p` has not reached its floor.
        """
        if adjusted <= self.control_maxima[0] or self.tail_scale == 0:
            return None
        one = self.tail_fraction * _pareto_tail(adjusted - self.tail_start, self.tail_scale, self.tail_shape)
        return min(self.n_songs * one, self.resolution)

    def critical(self, alpha: float = ALPHA) -> float:
        """The adjusted similarity that a song must exceed for `family_wise_p ≤ alpha`.

        Raises:
            UsageError: alpha is below what this many controls can show.
        """
        rank = math.floor(alpha * (self.n_controls + 1) + 1e-9)
        if rank < 1:
            raise UsageError(f"alpha {alpha} needs at least {math.ceil(1 / alpha) - 1} controls, got {self.n_controls}")
        return self.control_maxima[rank - 1]

    def bulk_p(self, mean_similarity: float) -> float:
        """Two-sided: is the query's mean similarity to the whole catalog one that a control could have?"""
        means = np.array(self.control_means)
        tail = min((means >= mean_similarity).sum(), (means <= mean_similarity).sum())
        return float(min(1.0, 2 * (1 + tail) / (self.n_controls + 1)))


def calibrate(catalog_ND: np.ndarray, controls_CD: np.ndarray) -> ChannelCalibration:
    """Measure the noise between controls and catalog in one channel.

    Args:
        catalog_ND: float32 `[N, D]` unit vectors.
        controls_CD: float32 `[C, D]` unit vectors, of music outside the catalog.

    Raises:
        UsageError: fewer than `MIN_CONTROLS` controls.
        StoreError: vectors that are not finite unit vectors, or controls that are all equally similar to all songs.
        SpecificationMismatch: the two have different dimensions.
    """
    check_unit_rows(catalog_ND, "catalog")
    check_unit_rows(controls_CD, "controls")
    n, c = len(catalog_ND), len(controls_CD)
    if catalog_ND.shape[1] != controls_CD.shape[1]:
        raise SpecificationMismatch(
            f"catalog vectors have {catalog_ND.shape[1]} dimensions and control vectors {controls_CD.shape[1]}"
        )
    if c < MIN_CONTROLS:
        raise UsageError(
            f"{c} control tracks are too few: at least {MIN_CONTROLS} distinct ones are needed for a p-value of "
            f"{ALPHA} (50 are recommended)"
        )
    use_one_blas_thread()
    means_N, centre_D = song_means(catalog_ND)
    controls = controls_CD.astype(np.float64)
    similarity_CN = np.empty((c, n))
    for block in blocks(n):
        similarity_CN[:, block] = controls @ catalog_ND[block].astype(np.float64).T
    std = float(similarity_CN.std())
    if std < 1e-9:
        raise StoreError("every control is equally similar to every song: such fingerprints cannot tell songs apart")

    mean = float(similarity_CN.mean())
    quantiles = {f"{q:g}": float(np.quantile(similarity_CN, q)) for q in _QUANTILES}
    exceedance = {f"{z:g}": float((similarity_CN >= mean + z * std).mean()) for z in _PUBLISHED_Z}
    maxima_similarity = np.sort(similarity_CN.max(axis=1))[::-1]
    # In place: of ten million songs and fifty controls, each such matrix is 4 GB.
    similarity_CN -= means_N
    maxima = np.sort(similarity_CN.max(axis=1))[::-1]
    pooled = similarity_CN.reshape(-1)
    pooled.sort()
    pooled = pooled[::-1]
    ranks = np.unique(np.geomspace(1, pooled.size, _NULL_POINTS).round().astype(np.int64))
    n_tail = min(max(round(_TAIL_FRACTION * pooled.size), _MIN_TAIL), pooled.size - 1)
    tail_scale, tail_shape = _fit_pareto(pooled[:n_tail] - pooled[n_tail])
    return ChannelCalibration(
        n_controls=c,
        n_songs=n,
        dims=catalog_ND.shape[1],
        mean=mean,
        std=std,
        similarity_quantiles=quantiles,
        exceedance=exceedance,
        null_ranks=tuple(ranks.tolist()),
        null_values=tuple(pooled[ranks - 1].tolist()),
        control_maxima=tuple(maxima.tolist()),
        control_maxima_similarity=tuple(maxima_similarity.tolist()),
        control_means=tuple(np.sort(np.einsum("cd,d->c", controls, centre_D))[::-1].tolist()),
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
