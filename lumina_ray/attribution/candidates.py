"""The candidates that a report lists, by rank.

Shapes: k candidates judged, l of them listed, n chunks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from lumina_ray.attribution import intervals
from lumina_ray.attribution.evidence import Retrieved
from lumina_ray.attribution.policies import Verdict, v7_confidence, v7_lip
from lumina_ray.attribution.schema import GroupFacts, MembershipFacts, SongFacts
from lumina_ray.index import Snapshot
from lumina_ray.vocabulary import Channel, QueryFingerprint

_ALL_FACTS = TypeAdapter(list[SongFacts])
_FACTS = list(SongFacts.model_fields)
_OF_SOME_POLICIES = ("threshold_slope", "share_low", "share_high", "explained", "confidence", "lip_percent")


def list_candidates(
    channel: Channel,
    query: QueryFingerprint,
    retrieved: Retrieved,
    verdict: Verdict,
    snapshot: Snapshot,
    policy: str,
    candidates: int,
) -> list[dict[str, Any]]:
    """The fields of each listed `Candidate`, by rank: the best ones, and all others that qualify or have a share.

    Args:
        candidates: how many of the best are listed in any case.
    """
    rows, evidence = retrieved.rows, retrieved.evidence
    gate, score = evidence.gate, evidence.score
    calibrated = policy == "calibrated"
    chunk_vectors_nD = query.channels[channel].chunk_vectors
    chunk_similarity_kn = (chunk_vectors_nD.astype(np.float64) @ evidence.vectors.T).T
    by_rank = np.lexsort((rows, -(score if calibrated else evidence.similarity), -verdict.shares))
    wanted = (np.arange(len(rows)) < candidates) | (verdict.qualified | (verdict.shares > 0))[by_rank]
    order = by_rank[wanted]
    by_song: dict[str, np.ndarray] = {
        "similarity": evidence.similarity,
        "standard_score": score,
        "threshold": verdict.thresholds,
        "kernel_score": retrieved.kernel_scores,
        "z": evidence.z,
        "family_wise_p": evidence.family_wise_p,
        "q_value": evidence.q_values,
        "qualified": verdict.qualified,
        "share": verdict.shares,
    }
    if calibrated:
        by_song["threshold_slope"] = evidence.threshold_slope
    if calibrated and verdict.qualified.sum() <= intervals.MAX_SONGS:
        ends = intervals.share_intervals(evidence, verdict)
        by_song |= zip(("share_low", "share_high"), ends, strict=True) if ends else {}
    if policy == "v7":
        by_song["confidence"] = v7_confidence(evidence.z)
        by_song["lip_percent"] = (v7_lip(evidence.z) + 1) / 2 * 100
    if verdict.explained is not None:
        by_song["explained"] = verdict.explained
    nothing, chunk_similarity_ln = [None] * len(order), chunk_similarity_kn[order]
    columns: dict[str, Sequence] = {
        "rank": (np.flatnonzero(wanted) + 1).tolist(),
        "song": (listed := _songs(snapshot.songs_at(rows[order], _FACTS))),
        "equal_songs": _equal_songs(snapshot, listed),
        "membership": _membership(snapshot, rows[order]),
        "group": _groups(snapshot, rows, order, verdict),
        "level": [verdict.levels[i] for i in order.tolist()],
        "p_extrapolated": [gate.extrapolated_p(s) for s in score[order].tolist()],
        "p_value": gate.p_value(score[order]).tolist(),
        "chunk_similarities": np.round(chunk_similarity_ln, 6).tolist(),
        "driving_chunks": driving_chunks(chunk_similarity_ln, np.asarray(query.chunk_weights)),
        **dict.fromkeys(_OF_SOME_POLICIES, nothing),
        **{name: values[order].tolist() for name, values in by_song.items()},
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def driving_chunks(similarity_ln: np.ndarray, weights_n: np.ndarray) -> list[tuple[int, ...]]:
    """For each song the fewest chunks whose weighted positive similarity makes up at least half of the song's total.

    Args:
        similarity_ln: float64 `[l, n]`, similarity of each chunk to each song.
        weights_n: float64 `[n]`, each chunk's weight in the query.

    Returns:
        Indexes of chunks, strongest first; none for a song without positive similarity.
    """
    parts_ln = np.ascontiguousarray(weights_n * np.maximum(similarity_ln, 0))
    order_ln = np.argsort(-parts_ln, axis=1, kind="stable")
    total_l = parts_ln.sum(axis=1)
    carried_ln = np.cumsum(parts_ln[np.arange(len(parts_ln))[:, None], order_ln], axis=1)
    needed_l = np.where(total_l > 0, (carried_ln < total_l[:, None] / 2).sum(axis=1) + 1, 0)
    return [tuple(order[:needed]) for order, needed in zip(order_ln.tolist(), needed_l.tolist(), strict=True)]


def _songs(songs: pa.Table) -> list[SongFacts]:
    """The manifest's facts of some songs."""
    values = zip(*(column.to_pylist() for column in songs.select(_FACTS).itercolumns()), strict=True)
    return _ALL_FACTS.validate_python([dict(zip(_FACTS, one, strict=True)) for one in values])


def _equal_songs(snapshot: Snapshot, listed: list[SongFacts]) -> list[tuple[SongFacts, ...]]:
    """The manifest's facts of all other songs whose audio equals that of some candidates, found or not."""
    if not len(snapshot.equal_songs.songs):
        return [()] * len(listed)
    by_codes: dict[str, list[SongFacts]] = {}
    for song in _songs(snapshot.equal_songs.present([song.codes_sha256 for song in listed])):
        by_codes.setdefault(song.codes_sha256, []).append(song)
    return [
        tuple(equal for equal in by_codes.get(song.codes_sha256, ()) if equal.song_id != song.song_id)
        for song in listed
    ]


def _groups(snapshot: Snapshot, rows: np.ndarray, order: np.ndarray, verdict: Verdict) -> list[GroupFacts | None]:
    """The group of each listed candidate that is a near copy of another one."""
    of: dict[int, GroupFacts] = {}
    for group in verdict.groups:
        if len(group.members) > 1:
            ids = snapshot.songs_at(rows[group.members], ["song_id"])["song_id"].to_pylist()
            facts = GroupFacts(
                rule=group.rule, share=float(verdict.shares[group.members].sum()), song_ids=tuple(sorted(ids))
            )
            of |= dict.fromkeys(group.members.tolist(), facts)
    return [of.get(place) for place in order.tolist()]


def _membership(snapshot: Snapshot, rows: np.ndarray) -> list[MembershipFacts | None]:
    """Membership evidence of some songs."""
    if snapshot.membership is None:
        return [None] * len(rows)
    excess, p_values = (snapshot.membership.songs[name].take(rows).to_pylist() for name in ("excess", "p_value"))
    return [MembershipFacts(excess=e, p_value=p) for e, p in zip(excess, p_values, strict=True)]
