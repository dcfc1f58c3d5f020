"""Compares a clip with the songs that a report lists, by their audio alone: shared notes, shared sound, or neither."""

from collections.abc import Mapping

import numpy as np

from lumina_ray.attribution.schema import ChannelReport, InfluenceFinding, SharedFinding, SharedLikeness, SharedSong
from lumina_ray.calibration import ALPHA
from lumina_ray.calibration.shared import ALIKE_Z
from lumina_ray.index import Snapshot
from lumina_ray.index.shared import SharedVectors
from lumina_ray.vocabulary import ASPECTS, COMPARED, EVIDENCE, Channel, Compared, QueryFingerprint

SHARED_ALPHA = ALPHA / len(EVIDENCE)
"""At most `ALPHA` of unrelated tracks are said to share either notes or sound with any song."""
# Decimals that are kept: beyond them, two machines may differ.
_DECIMALS = 6


def find_shared(
    query: QueryFingerprint,
    snapshot: Snapshot,
    near_copies: Mapping[Channel, ChannelReport],
    influence: InfluenceFinding | None,
) -> SharedFinding | None:
    """Compare a clip with every song that a finding lists.

    Returns:
        None where the index has no shared evidence, or nobody has the clip's audio.
    """
    shared = snapshot.shared
    if shared is None or query.evidence is None:
        return None
    listed = snapshot.rows_of(_listed(near_copies, influence))
    rows = np.array([row for row in listed.values() if shared.chunks[row]], np.int64)
    similarity = shared.similarities(query.evidence, rows)
    found = {name: _likeness(shared, name, similarity[name], rows) for name in COMPARED}
    place = {int(row): i for i, row in enumerate(rows)}
    return SharedFinding(
        alpha=SHARED_ALPHA,
        n_controls=shared.basis.n_controls,
        n_references=shared.basis.n_references,
        resolution=1 / (shared.basis.n_controls + 1) if shared.basis.n_controls else None,
        file_sha256=shared.file_sha256,
        alike_z=ALIKE_Z,
        chance={aspect: shared.basis.noise[name].chance for aspect, name in ASPECTS.items()},
        songs=tuple(
            _song(song_id, {n: found[n][place[row]] for n in COMPARED} if row in place else {})
            for song_id, row in listed.items()
        ),
    )


def _song(song_id: str, found: dict[Compared, SharedLikeness]) -> SharedSong:
    of = {name: found[name] for name in EVIDENCE if name in found}
    shares = [name for name, one in of.items() if one.p_value is not None and one.p_value <= SHARED_ALPHA]
    return SharedSong(
        song_id=song_id,
        composition=of.get("composition"),
        sound=of.get("sound"),
        shares=tuple(shares),
        aspects={aspect: found[name].z for aspect, name in ASPECTS.items()} if found else {},
    )


def _likeness(
    shared: SharedVectors, compared: Compared, similarity_s: np.ndarray, rows: np.ndarray
) -> list[SharedLikeness]:
    noise = shared.basis.noise[compared]
    likeness_s = similarity_s - shared.hubs[compared][rows]
    ascending_C = np.array(noise.control_maxima[::-1])
    at_least_s = len(ascending_C) - np.searchsorted(ascending_C, likeness_s, side="left")
    return [
        SharedLikeness(
            similarity=round(float(similarity), _DECIMALS),
            z=round(float(likeness) / noise.std, _DECIMALS),
            p_value=(1 + int(at_least)) / (len(ascending_C) + 1) if len(ascending_C) else None,
        )
        for similarity, likeness, at_least in zip(similarity_s, likeness_s, at_least_s, strict=True)
    ]


def _listed(near_copies: Mapping[Channel, ChannelReport], influence: InfluenceFinding | None) -> set[str]:
    listed = {candidate.song.song_id for channel in near_copies.values() for candidate in channel.candidates}
    if influence is not None:
        listed.update(song_id for group in influence.best for song_id in group.song_ids)
        listed.update(one.name for one in influence.songs if one.name is not None)
    return listed
