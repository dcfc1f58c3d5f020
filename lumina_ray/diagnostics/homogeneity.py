"""Homogeneity: are the songs that a query is attributed to more alike, by musical aspects, than songs drawn at random?

Likeness is that of the named songs with each other, not with the query.

Source: Aria (arXiv:2605.16181, §3.1 and §3.4).

Shape legend: R = rows (segments), Q = queries, N = songs, F = features of an aspect, G = groups, K = songs of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lumina_ray.diagnostics.features import GroupLikeness
from lumina_ray.errors import UsageError

Normalisation = Literal["z", "rank"]
"""How each query's scores are brought to mean 0 and standard deviation 1: as they are, or their ranks."""
SIGNIFICANT_Z = 1.645
"""One-sided 5 % of a normal distribution."""
_DRAWS = 1000


def normalised(scores_RQ: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """Bring each query's scores to mean 0 and standard deviation 1, float64 `[R, Q]`; 0 where all are equal.

    Args:
        normalisation: "rank" takes the ranks of the scores first, equal scores sharing their mean rank.
    """
    values_RQ = scores_RQ.astype(np.float64)
    if normalisation == "rank":
        values_RQ = np.stack([_ranks(column_R) for column_R in values_RQ.T], axis=1)
    constant_Q = np.ptp(values_RQ, axis=0) == 0
    values_RQ = values_RQ - values_RQ.mean(axis=0)
    values_RQ[:, constant_Q] = 0
    return values_RQ / np.where(constant_Q, 1, values_RQ.std(axis=0))


def of_songs(values_RQ: np.ndarray, song_R: np.ndarray, n_songs: int) -> np.ndarray:
    """Average rows over each song, float64 `[N, Q]`.

    Args:
        song_R: int, the song that each row belongs to, 0 to `n_songs` − 1; each song has a row.
    """
    sums_NQ = np.zeros((n_songs, values_RQ.shape[1]))
    np.add.at(sums_NQ, song_R, values_RQ)
    return sums_NQ / np.bincount(song_R, minlength=n_songs)[:, None]


def top_groups(scores_NQ: np.ndarray, size: int) -> np.ndarray:
    """List the songs with the highest scores for each query, int `[Q, K]`, in ascending order of songs.

    Of songs with equal scores, the first in the matrix are taken.

    Raises:
        UsageError: fewer than 2 songs in a group, or not fewer than the catalog has.
    """
    check_size(size, len(scores_NQ))
    return np.sort(np.argsort(-scores_NQ, axis=0, kind="stable")[:size].T, axis=1)


def check_size(size: int, n_songs: int) -> None:
    """Refuse a group size that leaves nothing to compare.

    Raises:
        UsageError: fewer than 2 songs in a group, or not fewer than the catalog has.
    """
    if not 2 <= size < n_songs:
        raise UsageError(
            f"groups of {size} songs from a catalog of {n_songs}: 2 to {n_songs - 1} can be compared with random groups"
        )


def random_groups(n_songs: int, size: int, count: int, seed: int) -> np.ndarray:
    """Draw groups of songs, each without a song twice: int `[G, K]`. Equal arguments give equal groups."""
    check_size(size, n_songs)
    rng = np.random.default_rng((seed, n_songs, size))
    return np.stack([rng.choice(n_songs, size, replace=False) for _ in range(count)])


@dataclass(frozen=True)
class Null:
    """Likeness inside random groups of songs, by one aspect.

    Attributes:
        mean_F, spread_F: mean and standard deviation of each feature's mean likeness over random groups.
        mean, spread: the same of the aspect's H, the mean over features of a group's standardised likeness.
        significant: part of the random groups themselves with z > `SIGNIFICANT_Z`; 0.05 if H were normal.
        skew: skewness of H over random groups.
    """

    mean_F: np.ndarray
    spread_F: np.ndarray
    mean: float
    spread: float
    significant: float
    skew: float


def null_of(features: Sequence[GroupLikeness], groups_GK: np.ndarray) -> Null:
    """Measure random groups by one aspect.

    Args:
        features: of the aspect, each prepared by `group_likeness`.

    Raises:
        UsageError: all groups are equally alike, so that nothing can stand out.
    """
    likeness_GF = np.stack([measure(groups_GK) for measure in features], axis=1)
    mean_F, spread_F = likeness_GF.mean(axis=0), likeness_GF.std(axis=0)
    if (spread_F <= 1e-12).any():
        raise UsageError(
            f"all random groups of {groups_GK.shape[1]} songs are equally alike by feature {int(spread_F.argmin())} of "
            "an aspect: nothing can stand out; leave the feature out, or take smaller groups"
        )
    h_G = ((likeness_GF - mean_F) / spread_F).mean(axis=1)
    mean, spread = float(h_G.mean()), float(h_G.std())
    z_G = (h_G - mean) / spread
    return Null(mean_F, spread_F, mean, spread, float((z_G > SIGNIFICANT_Z).mean()), float((z_G**3).mean()))


def z_of(features: Sequence[GroupLikeness], null: Null, groups_GK: np.ndarray) -> np.ndarray:
    """Compare groups with random ones by one aspect: float64 `[G]`; the random groups have mean 0 and variance 1."""
    # Queries may share groups, all of them even.
    distinct_GK, place_G = np.unique(groups_GK, axis=0, return_inverse=True)
    likeness_GF = np.stack([measure(distinct_GK) for measure in features], axis=1)
    h_G = ((likeness_GF - null.mean_F) / null.spread_F).mean(axis=1)
    return ((h_G - null.mean) / null.spread)[place_G.ravel()]


@dataclass(frozen=True)
class Homogeneity:
    """Homogeneity of all queries' groups by one aspect.

    Attributes:
        mean: z̄, mean over queries.
        low, high: central 95 % of z̄ when queries are drawn again; queries with equal groups are drawn together.
        positive: Pos, part of the queries with z > 0.
        significant: Sig, part of the queries with z > `SIGNIFICANT_Z`.
    """

    mean: float
    low: float
    high: float
    positive: float
    significant: float


def summarise(z_Q: np.ndarray, groups_QK: np.ndarray, seed: int = 0) -> Homogeneity:
    """Summarise the queries' z by one aspect."""
    cluster_Q = np.unique(groups_QK, axis=0, return_inverse=True)[1].ravel()
    sums, counts = np.bincount(cluster_Q, z_Q), np.bincount(cluster_Q)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(_DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Homogeneity(
        float(z_Q.mean()),
        float(low),
        float(high),
        float((z_Q > 0).mean()),
        float((z_Q > SIGNIFICANT_Z).mean()),
    )


def count_distinct(groups_QK: np.ndarray) -> int:
    """Count the groups that differ; 1 where every query names the same songs."""
    return len(np.unique(np.sort(groups_QK, axis=1), axis=0))


@dataclass(frozen=True)
class GenreRow:
    """Homogeneity of the queries of one genre: their number, z̄, Pos and Sig."""

    genre: str
    n: int
    mean: float
    positive: float
    significant: float


def genre_rows(z_Q: np.ndarray, genres: Sequence[str]) -> list[GenreRow]:
    """Summarise the queries' z by genre, in descending order of z̄; queries without a genre ("") are left out."""
    genre_Q = np.array(genres, dtype=object)
    rows = []
    for genre in sorted(set(genres) - {""}):
        z_n = z_Q[genre_Q == genre]
        rows.append(
            GenreRow(genre, len(z_n), float(z_n.mean()), float((z_n > 0).mean()), float((z_n > SIGNIFICANT_Z).mean()))
        )
    return sorted(rows, key=lambda row: (-row.mean, row.genre))


@dataclass(frozen=True)
class AcrossGenres:
    """Genres taken together.

    Attributes:
        n: queries with a genre.
        mean, positive, significant: over these queries.
        spread: sample standard deviation of the genres' z̄, each counted once; None for one genre.
        low, high: the smallest and the largest z̄ of a genre.
    """

    n: int
    mean: float
    positive: float
    significant: float
    spread: float | None
    low: float
    high: float


def across_genres(rows: Sequence[GenreRow]) -> AcrossGenres:
    """Take the rows of all genres together. One genre that carries everything shows as a large spread."""
    n = np.array([row.n for row in rows])
    means = np.array([row.mean for row in rows])

    def weighted(values: Sequence[float]) -> float:
        return float(np.average(values, weights=n))

    return AcrossGenres(
        int(n.sum()),
        weighted(means.tolist()),
        weighted([row.positive for row in rows]),
        weighted([row.significant for row in rows]),
        float(means.std(ddof=1)) if len(rows) > 1 else None,
        float(means.min()),
        float(means.max()),
    )


def _ranks(values_R: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank."""
    _, place_R, counts = np.unique(values_R, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place_R]
