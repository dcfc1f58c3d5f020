"""A whole diagnosis of one matrix of scores: reliability, groups, homogeneity by aspect, genres, alignment.

Shape legend: R = rows, Q = queries, N = songs, K = songs of a group.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lumina_ray.diagnostics.alignment import FOLDS, Alignment, alignment
from lumina_ray.diagnostics.feature_tables import FeatureTable
from lumina_ray.diagnostics.features import Feature, Likeness, VectorFeature, group_likeness
from lumina_ray.diagnostics.homogeneity import (
    AcrossGenres,
    GenreRow,
    Homogeneity,
    Normalisation,
    across_genres,
    check_size,
    count_distinct,
    genre_rows,
    normalised,
    null_of,
    of_songs,
    random_groups,
    summarise,
    top_groups,
    z_of,
)
from lumina_ray.diagnostics.reliability import Reliability, ScoreSums, judge, leading_axis, without_axis
from lumina_ray.diagnostics.score_tables import ScoreMatrix
from lumina_ray.errors import UsageError

RANKED = ("grad-dot", "tracin", "logra", "factgrass")
"""Methods whose scores are inner products of gradients with their lengths, which have heavy tails: ranks are taken."""
SMALL_SIZES, LARGE_SIZES = (5, 10, 20), (10, 20, 50, 100)
"""Songs of a group, for catalogs of fewer than 1000 songs and for larger ones."""
MAX_RANDOM_GROUPS = 100_000
_LARGE = 1000


@dataclass(frozen=True)
class Settings:
    """The choices that the paper leaves open.

    Attributes:
        sizes: songs of a group; empty for `SMALL_SIZES` or `LARGE_SIZES`, as far as they are fewer than the songs.
        random: how many random groups give the null.
        seed: of random groups, folds and shuffles.
        normalisation: of each query's scores; None for that of the method.
        likeness: map from distance to likeness.
    """

    sizes: tuple[int, ...] = ()
    random: int = 1000
    seed: int = 0
    normalisation: Normalisation | None = None
    likeness: Likeness = "reciprocal"


@dataclass(frozen=True)
class Groups:
    """The groups of all queries at one size.

    Attributes:
        size: K.
        residual: whether the rank-one component was taken off the scores before.
        distinct: groups that differ.
        songs: songs that are in any of them.
        songs_by_chance: how many songs as many random groups would name, on average.
    """

    size: int
    residual: bool
    distinct: int
    songs: int
    songs_by_chance: float


@dataclass(frozen=True)
class AspectRow:
    """Homogeneity by one aspect at one size of groups, beside the null's own share of z above 1.645, and its skew."""

    aspect: str
    size: int
    residual: bool
    found: Homogeneity
    null_significant: float
    null_skew: float


@dataclass(frozen=True)
class GenreTable:
    """Homogeneity of one aspect by genre of the query, of the scores as they are."""

    aspect: str
    size: int
    rows: list[GenreRow]
    together: AcrossGenres


@dataclass(frozen=True)
class Diagnosis:
    """Everything that is found about one channel's scores.

    Attributes:
        residual: reliability of the scores less their rank-one component; None where nothing is left.
        genres: one table for each aspect and size of groups.
        alignments: of the first left singular vector over songs with each aspect's vectors.
        notes: sentences on what was left out.
    """

    channel: str
    method: str
    songs: int
    normalisation: Normalisation
    likeness: Likeness
    random: int
    seed: int
    reliability: Reliability
    residual: Reliability | None
    groups: list[Groups]
    homogeneity: list[AspectRow]
    genres: list[GenreTable]
    alignments: dict[str, Alignment]
    notes: list[str]


def diagnose(
    matrix: ScoreMatrix,
    features: FeatureTable | None = None,
    genres: Sequence[str] | None = None,
    settings: Settings = Settings(),
) -> Diagnosis:
    """Diagnose the scores of one channel.

    Args:
        matrix: raw scores.
        features: of the matrix's songs, in their order; without them reliability and groups alone are found.
        genres: of the matrix's queries, in their order, "" for none; homogeneity is then also told by genre.

    Raises:
        UsageError: a group size that the catalog does not allow, scores without any that differ, or too many random
            groups.
    """
    n_songs = len(matrix.song_ids)
    sizes = settings.sizes or tuple(
        size for size in (SMALL_SIZES if n_songs < _LARGE else LARGE_SIZES) if size < n_songs
    )
    for size in sizes:
        check_size(size, n_songs)
    if not 2 <= settings.random <= MAX_RANDOM_GROUPS:
        raise UsageError(f"{settings.random} random groups: 2 to {MAX_RANDOM_GROUPS} can be drawn")
    normalisation = settings.normalisation or ("rank" if matrix.method in RANKED or not matrix.method else "z")
    notes = list(features.notes) if features else []
    sums = ScoreSums.of(matrix.scores_RQ)
    judged = judge(sums, settings.seed)
    rest_RQ = without_axis(matrix.scores_RQ, leading_axis(sums))
    by_residual = {False: matrix.scores_RQ}
    # Where the matrix has rank one, rounding alone is left.
    residual = None
    if (rest_RQ**2).sum() > 1e-20 * (matrix.scores_RQ**2).sum():
        by_residual[True], residual = rest_RQ, judge(ScoreSums.of(rest_RQ), settings.seed)
    else:
        notes.append("All scores lie on one axis: nothing is left without it.")
    of_songs_NQ = {
        is_rest: of_songs(normalised(scores_RQ, normalisation), matrix.song_R, n_songs)
        for is_rest, scores_RQ in by_residual.items()
    }
    found = Diagnosis(
        matrix.channel,
        matrix.method,
        n_songs,
        normalisation,
        settings.likeness,
        settings.random,
        settings.seed,
        judged,
        residual,
        groups=[],
        homogeneity=[],
        genres=[],
        alignments={},
        notes=notes,
    )
    tops = {
        (size, is_rest): top_groups(scores_NQ, size) for size in sizes for is_rest, scores_NQ in of_songs_NQ.items()
    }
    for (size, is_rest), groups_QK in tops.items():
        by_chance = n_songs * (1 - (1 - size / n_songs) ** len(groups_QK))
        found.groups.append(Groups(size, is_rest, count_distinct(groups_QK), len(np.unique(groups_QK)), by_chance))
    for aspect, of_aspect in (features.aspects if features else {}).items():
        _add_aspect(found, aspect, of_aspect, tops, genres, settings)
        _align(found, aspect, of_aspect, of_songs_NQ[False], settings.seed)
    return found


def _add_aspect(
    found: Diagnosis,
    aspect: str,
    features: Sequence[Feature],
    tops: dict[tuple[int, bool], np.ndarray],
    genres: Sequence[str] | None,
    settings: Settings,
) -> None:
    measures = [group_likeness(feature, settings.likeness) for feature in features]
    nulls = {
        size: null_of(measures, random_groups(found.songs, size, settings.random, settings.seed))
        for size in dict.fromkeys(size for size, _ in tops)
    }
    for (size, is_rest), groups_QK in tops.items():
        null = nulls[size]
        z_Q = z_of(measures, null, groups_QK)
        summary = summarise(z_Q, groups_QK, settings.seed)
        found.homogeneity.append(AspectRow(aspect, size, is_rest, summary, null.significant, null.skew))
        if genres is not None and not is_rest:
            rows = genre_rows(z_Q, genres)
            found.genres.append(GenreTable(aspect, size, rows, across_genres(rows)))


def _align(found: Diagnosis, aspect: str, features: Sequence[Feature], scores_NQ: np.ndarray, seed: int) -> None:
    vectors = [feature.values_ND for feature in features if isinstance(feature, VectorFeature)]
    if not vectors:
        found.notes.append(f"No alignment with {aspect}: it has no vectors.")
    elif found.songs < 2 * FOLDS:
        found.notes.append(f"No alignment: {found.songs} songs are too few for {FOLDS} folds of 2.")
    elif not np.any(scores_NQ):
        found.notes.append(f"No alignment with {aspect}: every query gives all songs the same score.")
    else:
        first_N = scores_NQ @ leading_axis(ScoreSums.of(scores_NQ))
        found.alignments[aspect] = alignment(first_N, np.concatenate(vectors, axis=1), seed)


def as_dict(found: Diagnosis) -> dict[str, Any]:
    """Give a diagnosis as JSON has it."""
    out = asdict(found)
    for name in ("reliability", "residual"):
        one: Reliability | None = getattr(found, name)
        if one is not None:
            out[name] |= {"collapse": one.collapse, "collapsed": one.collapsed}
    return out
