"""Questions of clients about the catalog: songs, their neighbours, and the versions of the index."""

from bisect import bisect_right
from pathlib import Path

import numpy as np

from lumina_ray.answers import FingerprintQuery, IndexVersion, IndexVersions, Neighbour, Neighbours, Song, SongPage
from lumina_ray.attribution.schema import SongFacts
from lumina_ray.calibration.vectors import check_unit_rows
from lumina_ray.errors import StoreError
from lumina_ray.index import Snapshot
from lumina_ray.index.files import versions
from lumina_ray.index.record import read_record
from lumina_ray.index.snapshot import is_complete
from lumina_ray.vocabulary import CHANNELS, Channel, ChannelQuery, QueryFingerprint
from serve import cursors
from serve.problems import Problem

_FACTS = list(SongFacts.model_fields)


def list_versions(live: Path) -> IndexVersions:
    """The versions beside the one that is live, newest first."""
    found, unusable = [], []
    for _, folder in reversed(versions(live.parent)):
        try:
            record = read_record(folder) if is_complete(folder) else None
        except StoreError:
            record = None
        if record is None:
            unusable.append(folder.name)
            continue
        found.append(
            IndexVersion(
                version=folder.name,
                live=folder == live,
                songs=record.n_songs,
                created=record.created,
                key=record.key,
                specification_sha256=record.specification_sha256,
                generation=record.generation,
            )
        )
    return IndexVersions(indexes=found, unusable=unusable)


def list_songs(snapshot: Snapshot, after: str, limit: int) -> SongPage:
    """Up to `limit` songs whose ids come after one, by id. Any id will do, also one that is gone by now."""
    rows = present_rows(snapshot, _first_after(snapshot, after), limit + 1)
    return song_page(snapshot, _facts(snapshot, rows[:limit]), len(rows) > limit)


def present_rows(snapshot: Snapshot, start: int, limit: int) -> np.ndarray:
    """Int64, ascending: the first rows from one on that are not withdrawn, at most `limit`."""
    withdrawn = snapshot.withdrawals.rows()
    withdrawn = withdrawn[np.searchsorted(withdrawn, start) :]
    n_present = len(snapshot.songs) - start - len(withdrawn)
    nth = np.arange(min(limit, n_present))
    # How many rows before each withdrawn one are present: the nth present row lies behind those that have no more.
    before = withdrawn - start - np.arange(len(withdrawn))
    return start + nth + np.searchsorted(before, nth, side="right")


def song_page(snapshot: Snapshot, songs: list[SongFacts], more: bool) -> SongPage:
    """A page, behind which there are more or not."""
    return SongPage(
        index_version=snapshot.version,
        songs=songs,
        next_cursor=cursors.encode(songs[-1].song_id) if more else None,
    )


def find_song(snapshot: Snapshot, song_id: str) -> Song:
    """One song.

    Raises:
        Problem: 404, it is not in the catalog, or not any more.
    """
    return Song(index_version=snapshot.version, song=_facts(snapshot, np.array([_row(snapshot, song_id)]))[0])


def nearest_songs(snapshot: Snapshot, song_id: str, channel: Channel, limit: int) -> Neighbours:
    """The songs most similar to one in a channel, most similar first, without itself.

    Raises:
        Problem: as `song_vector`.
    """
    return neighbours(snapshot, song_id, channel, song_vector(snapshot, song_id, channel), limit)


def song_vector(snapshot: Snapshot, song_id: str, channel: Channel) -> np.ndarray:
    """Float32 `[D]`, a song's fingerprint.

    Raises:
        Problem: 404 no such song, 422 the index has no such channel.
    """
    row = _row(snapshot, song_id)
    if channel not in snapshot.indexes:
        raise Problem(422, "request.invalid", f"channel: this index has only {', '.join(snapshot.indexes)}.")
    return snapshot.vectors(channel, np.array([row]))[0]


def neighbours(snapshot: Snapshot, song_id: str, channel: Channel, vector_D: np.ndarray, limit: int) -> Neighbours:
    """The songs most similar to a song's vector, without the song."""
    scores, rows = snapshot.search(channel, vector_D[None], limit + 1)
    near = zip(scores[0].tolist(), _facts(snapshot, rows[0]), strict=True)
    others = [Neighbour(similarity=similarity, song=song) for similarity, song in near if song.song_id != song_id]
    return Neighbours(index_version=snapshot.version, channel=channel, neighbours=others[:limit])


def as_query(query: FingerprintQuery, snapshot: Snapshot) -> QueryFingerprint:
    """A client's vectors as a query of one chunk.

    Raises:
        Problem: 422, they were not made as the index was, or are not unit vectors.
    """
    if query.specification_sha256 != snapshot.specification_sha256:
        raise Problem(
            422,
            "fingerprint.specification",
            f"The fingerprint has specification {query.specification_sha256}, the index {snapshot.version} has "
            f"{snapshot.specification_sha256}: make it with the model and fingerprint of the index.",
        )
    held = snapshot.record.dims
    if strangers := query.channels.keys() - held.keys():
        raise Problem(422, "fingerprint.invalid", f"channels: the index has no {', '.join(sorted(strangers))}.")
    channels = {}
    for channel in [c for c in CHANNELS if c in query.channels]:
        vector = np.array(query.channels[channel], np.float32)
        if len(vector) != (dims := held[channel]):
            raise Problem(
                422, "fingerprint.invalid", f"channels.{channel}: {len(vector)} numbers, the index has {dims}."
            )
        try:
            check_unit_rows(vector[None], f"channels.{channel}")
        except StoreError as error:
            raise Problem(422, "fingerprint.invalid", f"channels.{channel}: not a finite unit vector.") from error
        channels[channel] = ChannelQuery(vector, vector[None])
    return QueryFingerprint(
        audio_sha256=query.audio_sha256,
        codes_sha256=query.codes_sha256,
        duration_s=query.duration_s,
        specification_sha256=query.specification_sha256,
        weights_sha256=snapshot.record.specification["weights_sha256"],
        channels=channels,
        chunk_starts_s=(0.0,),
        chunk_durations_s=(query.duration_s,),
        chunk_weights=(1.0,),
        environment={"fingerprint": "handed in by the client, and not checked against any audio"},
    )


def _row(snapshot: Snapshot, song_id: str) -> int:
    row = _first_after(snapshot, song_id) - 1
    if row < 0 or snapshot.songs["song_id"][row].as_py() != song_id or row in snapshot.withdrawals.rows():
        raise Problem(404, "song.unknown", "The catalog has no such song.")
    return row


def _first_after(snapshot: Snapshot, song_id: str) -> int:
    """The first row whose id comes after one: rows are sorted by id, as UTF-8, in the order of Python's strings."""
    ids = snapshot.songs["song_id"]
    return bisect_right(range(len(ids)), song_id, key=lambda row: ids[row].as_py())


def _facts(snapshot: Snapshot, rows: np.ndarray) -> list[SongFacts]:
    return [SongFacts(**song) for song in snapshot.songs.select(_FACTS).take(rows).to_pylist()]
