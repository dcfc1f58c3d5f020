"""Evidence on the candidates of one channel: what a search finds near a query, and the statistics of it.

Shapes: Q queries, k candidates, D dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lumina_ray.calibration import ChannelCalibration
from lumina_ray.calibration.vectors import check_unit_rows
from lumina_ray.index import Found, Snapshot
from lumina_ray.methods.kernel import kernel_scores
from lumina_ray.vocabulary import Channel, QueryFingerprint


@dataclass(frozen=True)
class Evidence:
    """The similarity of k candidates to a query in one channel, with the noise to judge it by.

    Attributes:
        similarity: float64 `[k]`, inner products with the query.
        song_means: float64 `[k]`, each candidate's mean similarity to the rest of the catalog.
        vectors: float64 `[k, D]`, the candidates' fingerprints.
        query: float64 `[D]`.
        noise: the channel's calibration.
    """

    similarity: np.ndarray
    song_means: np.ndarray
    vectors: np.ndarray
    query: np.ndarray
    noise: ChannelCalibration

    @cached_property
    def z(self) -> np.ndarray:
        """Similarity in standard deviations of the noise above its mean, float64 `[k]`."""
        return self.noise.z(self.similarity)

    @cached_property
    def adjusted(self) -> np.ndarray:
        """Adjusted similarity, float64 `[k]`: similarity minus the song's mean similarity."""
        return self.similarity - self.song_means

    @cached_property
    def family_wise_p(self) -> np.ndarray:
        """Family-wise p-values, float64 `[k]`."""
        return self.noise.family_wise_p(self.adjusted)

    @cached_property
    def q_values(self) -> np.ndarray:
        """Benjamini–Hochberg q-values, float64 `[k]`."""
        # Songs that cannot qualify must not make the list longer, and its threshold lower.
        return self.noise.q_values(np.where(self.similarity > 0, self.adjusted, -np.inf))


@dataclass(frozen=True)
class Retrieved:
    """The candidates of one channel: songs of different audio.

    Attributes:
        rows: int64 `[k]`, the songs' rows in the snapshot, most similar first.
        judged: songs of the catalog that are candidates, or were found and have the audio of one.
        evidence: of the candidates.
        kernel_scores: float64 `[k]`.
    """

    rows: np.ndarray
    judged: int
    evidence: Evidence
    kernel_scores: np.ndarray


def search(channel: Channel, queries: Sequence[QueryFingerprint], snapshot: Snapshot, top_k: int) -> Iterator[Found]:
    """Find the songs nearest to each query that has the channel, in the order of the queries.

    Raises:
        StoreError: a query's vector is not a finite unit vector.
    """
    asked = [query.channels[channel].vector for query in queries if channel in query.channels]
    if not asked:
        return iter(())
    asked_QD = np.stack(asked)
    check_unit_rows(asked_QD, f"query, channel {channel}")
    return snapshot.nearest(channel, asked_QD, top_k)


def retrieve(channel: Channel, query: QueryFingerprint, found: Iterator[Found], snapshot: Snapshot) -> Retrieved:
    """Take the next result of a search and run the kernel regression on it.

    Most of its time is spent outside Python, so channels can run in threads side by side.
    """
    nearest, g = next(found), query.channels[channel].vector.astype(np.float64)
    judged, kept = len(nearest.rows), _one_each(snapshot, nearest.rows)
    if len(kept) < judged:
        nearest = Found(nearest.rows[kept], nearest.similarity[kept], nearest.vectors[kept])
    noise, means = snapshot.calibration.channels[channel], snapshot.means[channel][nearest.rows]
    evidence = Evidence(nearest.similarity, means, nearest.vectors, g, noise)
    return Retrieved(nearest.rows, judged, evidence, kernel_scores(nearest.vectors, g))


def _one_each(snapshot: Snapshot, rows: np.ndarray) -> list[int]:
    """Keep one song of each audio: a regression would halve the share of a song that is in the catalog twice.

    Returns:
        The places among `rows` of the songs that are kept, each the first of its audio. Equal codes are equal audio,
        whichever files it is in.
    """
    # The snapshot lists the songs whose audio another one has, and most catalogs have none.
    if not len(snapshot.equal_songs.songs):
        return list(range(len(rows)))
    places: dict[str, int] = {}
    for place, codes in enumerate(snapshot.songs_at(rows, ["codes_sha256"])["codes_sha256"].to_pylist()):
        places.setdefault(codes, place)
    return list(places.values())
