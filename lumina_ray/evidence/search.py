"""Songs that share notes, or sound, with a query, and how often unrelated music does as much.

A song's **likeness** to a query is the mean, over the query's chunks, of the cosine with the song's most similar chunk,
at the speed of the query at which that mean is highest, less the mean likeness of the other songs of the catalog to
that song: a long song, or one that resembles everything, has no advantage. What is taken off depends on the catalog
alone. So, where query and controls are exchangeable, the query's best likeness is as likely to be the largest of the
C + 1 as any control's: `p = (1 + #{controls whose best is as high}) / (C + 1)` is exact for the best of all songs (a
conformal p-value).

Shape legend: Q = queries, N = catalog songs, C = controls, D = numbers of a vector.
"""

from dataclasses import dataclass

import numpy as np

from lumina_ray.errors import UsageError
from lumina_ray.evidence.table import EvidenceTable
from lumina_ray.vocabulary import Evidence

MIN_CONTROLS = 20
"""With fewer, no p-value reaches 0.05."""
_BLOCK = 256


@dataclass(frozen=True)
class NoiseBand:
    """Likeness of unrelated music, in one kind of evidence.

    Attributes:
        hub_N: float64, the mean similarity of the catalog's other songs to each song.
        speeds: at how many speeds the controls asked.
        mean: of the likeness of all controls to all songs.
        std: its standard deviation.
        maxima_C: float64, each control's best likeness, ascending.
    """

    hub_N: np.ndarray
    speeds: int
    mean: float
    std: float
    maxima_C: np.ndarray


@dataclass(frozen=True)
class Match:
    """A song of the catalog beside a query.

    Attributes:
        similarity: mean cosine of the query's chunks with the song's most similar ones.
        z: likeness in standard deviations above the mean of unrelated music. Not a probability.
        p_value: the probability that the best of all songs is as alike for unrelated music.
    """

    song_id: str
    similarity: float
    z: float
    p_value: float


def song_similarities(queries: EvidenceTable, catalog: EvidenceTable, evidence: Evidence) -> np.ndarray:
    """Compute the mean over a query's chunks of the best cosine with a song's chunks, at its best speed.

    Args:
        queries: described at one speed or several.
        catalog: of its vectors, those of speed 1 count.

    Returns:
        float64 `[Q, N]`.
    """
    theirs_nD = np.ascontiguousarray(catalog.vectors[evidence][:, 0])
    by_speed = [
        _similarities(queries, ours_nD, theirs_nD, catalog.firsts)
        for ours_nD in np.moveaxis(queries.vectors[evidence], 1, 0)
    ]
    return np.max(by_speed, axis=0)


def _similarities(
    queries: EvidenceTable, ours_nD: np.ndarray, theirs_nD: np.ndarray, firsts_N: np.ndarray
) -> np.ndarray:
    out = np.zeros((len(queries.song_ids), len(firsts_N)))
    for row, first, n in zip(out, queries.firsts, queries.chunks, strict=True):
        for begin in range(first, first + n, _BLOCK):
            block_qD = ours_nD[begin : min(begin + _BLOCK, first + n)]
            # Not through BLAS, whose last bits depend on its threads.
            cosines_qn = np.einsum("qd,nd->qn", block_qD, theirs_nD)
            row += np.maximum.reduceat(cosines_qn, firsts_N, axis=1).sum(axis=0, dtype=np.float64)
        row /= n
    return out


def noise_band(catalog: EvidenceTable, controls: EvidenceTable, evidence: Evidence) -> NoiseBand:
    """Measure how alike controls, music that has nothing to do with the catalog, are to its songs.

    Raises:
        UsageError: fewer than `MIN_CONTROLS` controls, a song that is also a control, or a catalog of one song.
    """
    if len(controls.song_ids) < MIN_CONTROLS:
        raise UsageError(
            f"{len(controls.song_ids)} controls are too few: at least {MIN_CONTROLS} are needed for p ≤ 0.05"
        )
    if both := sorted(set(catalog.song_ids) & set(controls.song_ids)):
        raise UsageError(f"{len(both)} songs are in the catalog and among the controls, such as {both[0]!r}")
    N = len(catalog.song_ids)
    if N < 2:
        raise UsageError("a catalog of one song has no noise: at least two songs are needed")
    within_NN = song_similarities(catalog, catalog, evidence)
    np.fill_diagonal(within_NN, 0)
    hub_N = within_NN.sum(axis=0) / (N - 1)
    likeness_CN = song_similarities(controls, catalog, evidence) - hub_N
    std = float(likeness_CN.std())
    return NoiseBand(
        hub_N,
        controls.vectors[evidence].shape[1],
        float(likeness_CN.mean()),
        max(std, 1e-9),
        np.sort(likeness_CN.max(axis=1)),
    )


def find(query: EvidenceTable, catalog: EvidenceTable, noise: NoiseBand, evidence: Evidence) -> list[Match]:
    """Order all songs by likeness to one query, the most alike first.

    Args:
        query: a table of one song.
        noise: of the same catalog and evidence.

    Raises:
        UsageError: the query asks at more or fewer speeds than the controls did: a maximum over more is higher.
    """
    if (speeds := query.vectors[evidence].shape[1]) != noise.speeds:
        raise UsageError(
            f"the query asks at {speeds} speeds, the controls at {noise.speeds}: make the controls' table with "
            "`lumina evidence build --controls`"
        )
    (similarity_N,) = song_similarities(query, catalog, evidence)
    likeness_N = similarity_N - noise.hub_N
    at_least_N = len(noise.maxima_C) - np.searchsorted(noise.maxima_C, likeness_N, side="left")
    p_N = (1 + at_least_N) / (len(noise.maxima_C) + 1)
    z_N = (likeness_N - noise.mean) / noise.std
    return [
        Match(catalog.song_ids[i], float(similarity_N[i]), float(z_N[i]), float(p_N[i]))
        for i in np.argsort(-likeness_N, kind="stable")
    ]
