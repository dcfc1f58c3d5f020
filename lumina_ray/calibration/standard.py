"""Standard scores: how far a song stands out for a query, on a scale that all songs and all queries share.

Two things make a similarity large that mean nothing: a song that resembles everything (a hub), and a query that
resembles everything, such as near silence. So a similarity `s` of a query to song j is standardised twice:

    excess  u_j = (s_j − mean_j) / √(variance_j + typical variance)     by the controls' similarities to song j
    score   t_j = (u_j − centre) / scale                                by the query's own excesses over the catalog

The typical variance is the median over songs: a song that happens to resemble no control much must not look exact.
`centre` and `scale` are the mean and the spread of the query's excesses over the *reference songs*, which are up to
`REFERENCE_SONGS` songs of the catalog of which no two are alike: a recording that is registered a hundred times counts
once. They are drawn towards 0 and √½, what a control has over many songs, so that small catalogs have a scale as well,
and excesses below −1.5 count as −1.5: that a query is unlike a song which every control resembles says nothing of the
others.

A control enters the mean and the variance of no song that it is itself standardised by: it is left out. Control and
query are then treated alike, but for the C − 1 controls that one is standardised by and the C of the other.

C = controls, N = songs, R = reference songs, D = fingerprint dimensions, k = songs of interest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lumina_ray.vocabulary import Channel

REFERENCE_SONGS = 512
# Two songs are one reference song from this part of the way on between the typical similarity of two songs and 1.
_ALIKE, _TYPICAL_OF, _THE_SAME = 0.3, 64, 0.95
# Songs that are looked at for each reference song that is wanted, at most.
_LOOKED_AT = 16
_PRIOR_SONGS, _PRIOR_VARIANCE = 8, 0.5
_LEAST_EXCESS = -1.5
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class SongNoise:
    """The noise of some songs in one channel: the similarities of controls to each of them.

    Attributes:
        mean: float64 `[N]`.
        spread: float64 `[N]`, the root of the variance plus the typical one.
    """

    mean: np.ndarray
    spread: np.ndarray

    def take(self, rows: np.ndarray) -> "SongNoise":
        """Give the noise of some of the songs."""
        return SongNoise(self.mean[rows], self.spread[rows])

    def excess(self, similarity: np.ndarray) -> np.ndarray:
        """Compute excesses of similarities to the songs, which are the last axis."""
        return (similarity - self.mean) / self.spread


@dataclass(frozen=True)
class QueryLevel:
    """How alike one query is to the catalog at large, in one channel."""

    centre: float
    scale: float

    def scores(self, excess: np.ndarray) -> np.ndarray:
        """Compute the standard scores of excesses."""
        return (excess - self.centre) / self.scale

    def similarity_at(self, score: np.ndarray | float, noise: SongNoise) -> np.ndarray:
        """Compute the similarity to each of some songs that has a standard score."""
        return noise.mean + noise.spread * (self.centre + self.scale * score)


@dataclass(frozen=True)
class Reference:
    """The reference songs of a catalog in one channel.

    Attributes:
        vectors: float64 `[R, D]`.
        noise: of these songs.
    """

    vectors: np.ndarray
    noise: SongNoise

    def level(self, query_D: np.ndarray) -> QueryLevel:
        """Measure how alike a query is to the catalog.

        Args:
            query_D: float64, a unit vector.
        """
        centre, scale = levels(self.noise.excess(self.vectors @ query_D)[None])
        return QueryLevel(float(centre[0]), float(scale[0]))


def levels(excess_QR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the centre and the scale of queries' excesses over the reference songs, float64 `[Q]` each."""
    excess_QR, n = np.maximum(excess_QR, _LEAST_EXCESS), excess_QR.shape[1] + _PRIOR_SONGS
    centre_Q = excess_QR.sum(axis=1) / n
    variance_Q = ((excess_QR**2).sum(axis=1) + _PRIOR_SONGS * _PRIOR_VARIANCE) / n - centre_Q**2
    return centre_Q, np.sqrt(variance_Q)


def song_noise(similarity_CN: np.ndarray, reference_R: np.ndarray) -> SongNoise:
    """Measure the noise of songs, for queries that are no control.

    Args:
        similarity_CN: of each control to each song.
        reference_R: rows of the reference songs.
    """
    variance_N = similarity_CN.var(axis=0, ddof=1)
    return SongNoise(similarity_CN.mean(axis=0), _spread(variance_N, float(np.median(variance_N[reference_R]))))


def score_controls(similarity_CN: np.ndarray, reference_R: np.ndarray) -> None:
    """Turn the similarities of controls to songs into their standard scores, in place: each control is left out.

    Args:
        similarity_CN: float64, overwritten.
    """
    for off_N in _left_out(similarity_CN, reference_R):
        centre, scale = levels(off_N[None, reference_R])
        off_N -= centre[0]
        off_N /= scale[0]


def excess_of_controls(similarity_CR: np.ndarray) -> np.ndarray:
    """Compute the excesses of the reference songs for each control, which is left out of their noise.

    Returns:
        Float64 `[C, R]`.
    """
    excess_CR = similarity_CR.copy()
    for _ in _left_out(excess_CR, np.arange(excess_CR.shape[1])):
        pass
    return excess_CR


def _left_out(similarity_CN: np.ndarray, reference_R: np.ndarray) -> Iterator[np.ndarray]:
    """Turn the similarities of controls to songs into excesses, in place, each control left out; give each row."""
    c = len(similarity_CN)
    off_CN = similarity_CN
    off_CN -= similarity_CN.mean(axis=0)
    squares_N = np.einsum("cn,cn->n", off_CN, off_CN)
    # What is left of a song's mean and squares without control i follows from the control's distance to the mean.
    left_out = c / (c - 1)
    for i in range(c):
        off_N = off_CN[i]
        variance_N = np.maximum(squares_N - left_out * off_N**2, 0) / (c - 2)
        off_N *= left_out
        off_N /= _spread(variance_N, float(np.median(variance_N[reference_R])))
        yield off_N


def reference_songs(catalog: Mapping[Channel, np.ndarray], order_N: np.ndarray) -> np.ndarray:
    """Choose the reference songs: the first ones of which no two are alike.

    Args:
        catalog: channel → float32 `[N, D]` unit vectors. Similarity is the mean over channels.
        order_N: rows, in the order in which they are looked at.

    Returns:
        Rows, int64 `[R]`, ascending.
    """
    first = {c: v[np.sort(order_N[:_TYPICAL_OF])].astype(np.float64) for c, v in catalog.items()}
    pairs = sum(v @ v.T for v in first.values())[np.triu_indices(len(order_N[:_TYPICAL_OF]), 1)] / len(first)
    typical = float(np.median(pairs)) if pairs.size else 0.0
    alike = min(typical + _ALIKE * (1 - typical), _THE_SAME)
    kept: list[int] = []
    vectors = {c: np.empty((min(REFERENCE_SONGS, len(order_N)), v.shape[1])) for c, v in catalog.items()}
    for row in order_N[: _LOOKED_AT * REFERENCE_SONGS].tolist():
        n = len(kept)
        if n == REFERENCE_SONGS:
            break
        song = {c: v[row].astype(np.float64) for c, v in catalog.items()}
        if n and sum(vectors[c][:n] @ song[c] for c in song).max() > alike * len(song):
            continue
        for c, vector_D in song.items():
            vectors[c][n] = vector_D
        kept.append(row)
    return np.sort(np.array(kept, np.int64))


def _spread(variance_N: np.ndarray, typical: float) -> np.ndarray:
    return np.maximum(np.sqrt(variance_N + typical), _LEAST_SPREAD)
