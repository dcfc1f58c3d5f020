"""Evidence on the candidates of one channel: what a search finds near a query, and the statistics of it.

Shapes: Q queries, k candidates, D dimensions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lumina_ray.attribution.groups import Claim, near_copies
from lumina_ray.attribution.parts import QueryParts
from lumina_ray.calibration import (
    CatalogNoise,
    ChannelCalibration,
    Gate,
    QueryLevel,
    Reference,
    SongNoise,
    joint_scores,
)
from lumina_ray.calibration.vectors import check_unit_rows
from lumina_ray.index import Found, Snapshot
from lumina_ray.methods.kernel import kernel_scores
from lumina_ray.vocabulary import Channel, QueryFingerprint

OWNER_OF: dict[Channel, str] = {"P": "publisher", "M": "master_owner"}
"""Column of the manifest with the owner of each channel's right."""


@dataclass(frozen=True)
class Evidence:
    """The similarity of k candidates to a query in one channel, with the noise to judge it by.

    Attributes:
        similarity: float64 `[k]`, inner products with the query.
        score: float64 `[k]`, standard scores, of all channels of the query together.
        vectors: float64 `[k, D]`, the candidates' fingerprints.
        query: float64 `[D]`.
        stretches: float32 `[n, D]`, unit vectors of the query's stretches.
        stretch_weights: float64 `[n]`, each stretch's fraction of the query.
        level: how alike the query is to the catalog.
        song_noise: of the candidates.
        noise: the channel's calibration.
        gate: the null of the scores.
        near: says which candidates are near copies of some of them, given their places: bool `[q, k]`.
        claims: gives the facts of some candidates by which a group of near copies is paid.
    """

    similarity: np.ndarray
    score: np.ndarray
    vectors: np.ndarray
    query: np.ndarray
    stretches: np.ndarray
    stretch_weights: np.ndarray
    level: QueryLevel
    song_noise: SongNoise
    noise: ChannelCalibration
    gate: Gate
    near: Callable[[np.ndarray], np.ndarray]
    claims: Callable[[np.ndarray], list[Claim]]

    @cached_property
    def parts(self) -> QueryParts:
        """The query, stretch by stretch."""
        return QueryParts.of(self.query, self.stretches, self.stretch_weights)

    @cached_property
    def z(self) -> np.ndarray:
        """Similarity in standard deviations of the noise above its mean, float64 `[k]`."""
        return self.noise.z(self.similarity)

    def similarity_at(self, score: np.ndarray | float) -> np.ndarray:
        """Compute the similarity of each candidate at which this channel alone has a standard score."""
        return self.level.similarity_at(score, self.song_noise)

    @cached_property
    def threshold_slope(self) -> np.ndarray:
        """Rise of `similarity_at` for each 1 of the score, float64 `[k]`."""
        return self.song_noise.spread * self.level.scale

    @cached_property
    def family_wise_p(self) -> np.ndarray:
        """Family-wise p-values, float64 `[k]`."""
        return self.gate.family_wise_p(self.score)

    @cached_property
    def q_values(self) -> np.ndarray:
        """Benjamini–Hochberg q-values, float64 `[k]`."""
        # Songs that cannot qualify must not make the list longer, and its threshold lower.
        return self.gate.q_values(np.where(self.similarity > 0, self.score, -np.inf))


def evidence_on_all(
    noise: CatalogNoise,
    catalog: Mapping[Channel, np.ndarray],
    query: Mapping[Channel, np.ndarray],
    claims: Callable[[np.ndarray], list[Claim]] | None = None,
    stretches: Mapping[Channel, np.ndarray] | None = None,
) -> dict[Channel, Evidence]:
    """Judge all songs of a catalog that lies in memory, by channel.

    Args:
        noise: measured on this catalog.
        catalog: channel → `[N, D]`.
        query: channel → `[D]`, in some of these channels.
        claims: gives those of some songs, by row; nothing is known of any by default.
        stretches: channel → `[n, D]` unit vectors of the query's stretches, equally long; by default it is one.
    """
    query = {c: vector_D.astype(np.float64) for c, vector_D in query.items()}
    vectors = {c: catalog[c].astype(np.float64) for c in query}
    rows_R = noise.reference_rows
    references = {c: Reference(vectors[c][rows_R], noise.songs[c].take(rows_R)) for c in query}
    levels = {c: references[c].level(query[c]) for c in query}
    similarity = {c: vectors[c] @ query[c] for c in query}
    score = joint_scores([levels[c].scores(noise.songs[c].excess(similarity[c])) for c in query])
    gate = noise.gates["".join(query)]

    def near(places: np.ndarray) -> np.ndarray:
        return near_copies(vectors, noise.songs, references, gate, places)

    return {
        c: Evidence(
            similarity=similarity[c],
            score=score,
            vectors=vectors[c],
            query=query[c],
            stretches=stretches[c] if stretches else query[c][None],
            stretch_weights=np.full(n := len(stretches[c]) if stretches else 1, 1 / n),
            level=levels[c],
            song_noise=noise.songs[c],
            noise=noise.channels[c],
            gate=gate,
            near=near,
            claims=claims or (lambda places: [Claim()] * len(places)),
        )
        for c in query
    }


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


def query_levels(query: QueryFingerprint, snapshot: Snapshot) -> dict[Channel, QueryLevel]:
    """Measure how alike a query is to the catalog, by channel."""
    return {c: snapshot.references[c].level(of.vector.astype(np.float64)) for c, of in query.channels.items()}


def retrieve(
    channel: Channel,
    query: QueryFingerprint,
    found: Iterator[Found],
    snapshot: Snapshot,
    levels: Mapping[Channel, QueryLevel],
) -> Retrieved:
    """Take the next result of a search, score it and run the kernel regression on it.

    Most of its time is spent outside Python, so channels can run in threads side by side.

    Args:
        levels: of the query, in each of its channels.
    """
    nearest, g = next(found), query.channels[channel].vector.astype(np.float64)
    judged, kept = len(nearest.rows), _one_each(snapshot, nearest.rows)
    if len(kept) < judged:
        nearest = Found(nearest.rows[kept], nearest.similarity[kept], nearest.vectors[kept])
    rows, gate = nearest.rows, snapshot.calibration.gates["".join(levels)]

    def near(places: np.ndarray) -> np.ndarray:
        others = {c: snapshot.vectors(c, rows).astype(np.float64) for c in levels if c != channel}
        vectors = {c: others.get(c, nearest.vectors) for c in levels}
        noise = {c: snapshot.noise[c].take(rows) for c in levels}
        return near_copies(vectors, noise, snapshot.references, gate, places)

    scores = []
    for c in levels:
        similarity = nearest.similarity if c == channel else _similarity(c, query, nearest.rows, snapshot)
        scores.append(levels[c].scores(snapshot.noise[c].take(nearest.rows).excess(similarity)))
    evidence = Evidence(
        similarity=nearest.similarity,
        score=joint_scores(scores),
        vectors=nearest.vectors,
        query=g,
        stretches=query.channels[channel].chunk_vectors,
        stretch_weights=np.asarray(query.chunk_weights),
        level=levels[channel],
        song_noise=snapshot.noise[channel].take(nearest.rows),
        noise=snapshot.calibration.channels[channel],
        gate=gate,
        near=near,
        claims=lambda places: _claims(channel, snapshot, rows[places]),
    )
    return Retrieved(nearest.rows, judged, evidence, kernel_scores(nearest.vectors, g))


def _similarity(channel: Channel, query: QueryFingerprint, rows: np.ndarray, snapshot: Snapshot) -> np.ndarray:
    """Compute the similarity of a query to some songs in a channel that they were not searched in."""
    # Row by row, so that a score does not depend on what else is scored with it.
    vectors_kD = snapshot.vectors(channel, rows).astype(np.float64)
    return np.einsum("kd,d->k", vectors_kD, query.channels[channel].vector.astype(np.float64))


def _claims(channel: Channel, snapshot: Snapshot, rows: np.ndarray) -> list[Claim]:
    """Give the claims of some songs. Of equal audio, the earliest date counts."""
    owner = OWNER_OF[channel]
    songs = snapshot.songs.select(["codes_sha256", "registered", owner]).take(rows).to_pylist()
    equal = snapshot.equal_songs.present([song["codes_sha256"] for song in songs]) if songs else snapshot.songs[:0]
    dates: dict[str, str] = {}
    for codes, registered in zip(equal["codes_sha256"].to_pylist(), equal["registered"].to_pylist(), strict=True):
        if registered:
            dates[codes] = min(registered, dates.get(codes, registered))
    return [Claim(dates.get(song["codes_sha256"], song["registered"]), song[owner]) for song in songs]


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
