"""Reading a snapshot and searching it. Shapes: Q queries, k results, N songs, D dimensions."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumina_ray.calibration import (
    CALIBRATION_FILE,
    Calibration,
    Reference,
    SongNoise,
    noise_columns,
    read_calibration,
)
from lumina_ray.calibration.effects import EFFECTS_FILE, SongEffects, read_effects, z_of
from lumina_ray.calibration.membership import EARLIER_FILE, MEMBERSHIP_FILE, Membership, read_membership
from lumina_ray.calibration.vectors import blocks
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.files import sha256_of
from lumina_ray.index.bucket import fetch
from lumina_ray.index.centres import read_centres
from lumina_ray.index.channel import ChannelIndex, Found, nearest, read_channel, top_k
from lumina_ray.index.equal_songs import EqualSongs
from lumina_ray.index.files import (
    CENTRES_FILE,
    EQUAL_SONGS_FILE,
    IDS_FILE,
    MANIFEST_FILE,
    vectors_file,
    versions,
)
from lumina_ray.index.record import SnapshotRecord, read_record
from lumina_ray.index.shared import SharedVectors, read_shared_vectors
from lumina_ray.index.withdrawn import Withdrawals
from lumina_ray.index.worth import PARTIES, Worth, weigh
from lumina_ray.storage import AnyPath, Location, RemotePath, locate
from lumina_ray.vocabulary import CHANNELS, Channel


@dataclass(frozen=True)
class Shard:
    """The songs of a catalog from its `start`-th to before its `stop`-th of `of` equal parts, counted from 0."""

    start: int
    stop: int
    of: int

    def rows(self, n_songs: int) -> range:
        return range(n_songs * self.start // self.of, n_songs * self.stop // self.of)


@dataclass(frozen=True)
class Snapshot:
    """One immutable version of an index.

    Attributes:
        version: such as "v0007".
        record: what the snapshot was made of, its `manifest.json`.
        songs: row i describes vector i of both channels.
        noise: the noise of each song, by channel.
        centres: channel → float64 `[D]`, the mean vector of the catalog.
        references: the reference songs of the whole catalog, by channel, whichever part of it this snapshot holds.
        withdrawals: songs that are left out of every answer, because they were taken out of the catalog since.
        equal_songs: those of the whole catalog that have equal audio, whichever part of it this snapshot holds.
        membership: membership evidence, row i of its songs belongs to vector i; None if no reference model was asked.
        effects: what similarities are worth in nats; None if no fit was given.
        shared: shared evidence of the songs, row i belongs to vector i; None if their store has none.
    """

    version: str
    record: SnapshotRecord
    songs: pa.Table
    calibration: Calibration
    noise: dict[Channel, SongNoise]
    centres: dict[Channel, np.ndarray]
    references: dict[Channel, Reference]
    indexes: dict[Channel, ChannelIndex]
    withdrawals: Withdrawals
    equal_songs: EqualSongs
    membership: Membership | None = None
    effects: SongEffects | None = None
    shared: SharedVectors | None = None

    def __len__(self) -> int:
        return len(self.songs)

    @property
    def n_present(self) -> int:
        """Songs that may be found."""
        return len(self.songs) - len(self.withdrawals.rows())

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def specification_sha256(self) -> str:
        return self.record.specification_sha256

    def withdrawn_as(self, withdrawals: Withdrawals) -> "Snapshot":
        """Give this snapshot with other songs of it withdrawn, as at another time."""
        equal = replace(self.equal_songs, withdrawals=withdrawals.of(self.equal_songs.songs))
        return replace(self, withdrawals=withdrawals, equal_songs=equal)

    def songs_at(self, rows: np.ndarray, columns: list[str]) -> pa.Table:
        """Some columns of some rows of `songs`, the rows given by int64 `[k]`, in their order."""
        # From an array of NumPy, Arrow would make its own only after it has imported pandas.
        places = pa.py_buffer(np.ascontiguousarray(rows, np.int64))
        return self.songs.select(columns).take(pa.Array.from_buffers(pa.int64(), len(rows), [None, places]))

    def rows_of(self, song_ids: Iterable[str]) -> dict[str, int]:
        """Find the rows of some songs, in the order of their ids, which is that of all songs; others are left out."""
        ids, found = self.songs["song_id"], {}
        for song_id in sorted(song_ids):
            row = bisect_left(range(len(ids)), song_id, key=lambda i: ids[i].as_py())
            if row < len(ids) and ids[row].as_py() == song_id:
                found[song_id] = row
        return found

    def vectors(self, channel: Channel, rows: np.ndarray) -> np.ndarray:
        """Float32 `[len(rows), D]`."""
        return self.indexes[channel].vectors(rows)

    def search(self, channel: Channel, query_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar songs of each query, most similar first, equal ones by row.

        The answer to one query does not depend on the others in its batch: what FAISS retrieves is scored again in
        float64. An approximate index may miss songs, as often as the record's recall says, and scores none wrongly.

        Args:
            query_QD: float `[Q, D]`.
            k: at least 1; more than N is N.

        Returns:
            scores: float32 `[Q, min(k, N)]`, inner products; N does not count withdrawn songs.
            rows: int64 `[Q, min(k, N)]`.

        Raises:
            SpecificationMismatch: D is not the index's.
            UsageError: k below 1, or values that are not finite.
        """
        return top_k(*self._asked(channel, query_QD, k))

    def nearest(self, channel: Channel, query_QD: np.ndarray, k: int) -> Iterator[Found]:
        """Find what `search` finds, with the vectors of the songs found: query by query, since they may be large."""
        return nearest(*self._asked(channel, query_QD, k))

    def worth(self, query: Mapping[Channel, np.ndarray]) -> Worth | None:
        """Weigh the songs that may be found by what leaving them out of the training would cost a query.

        Args:
            query: channel → float32 `[D]`.

        Returns:
            None where the index has no effects, or the query not just their channels.
        """
        if self.effects is None or set(self.effects.scales) != set(query):
            return None
        rows = np.setdiff1d(np.arange(len(self.songs)), self.withdrawals.rows())
        parts = self.effects.effects({c: self._z(c, query[c], rows) for c in self.effects.scales})
        # Without evidence no song's use is refuted.
        refuted_N = self.membership.refuted()[rows] if self.membership else np.zeros(len(rows), bool)
        return weigh(parts, self.songs_at(rows, ["song_id", *PARTIES]), refuted_N)

    def _z(self, channel: Channel, query_D: np.ndarray, rows: np.ndarray) -> np.ndarray:
        similarity_N = np.empty(len(rows))
        for block in blocks(len(rows)):
            vectors = self.vectors(channel, rows[block]).astype(np.float64)
            # Row by row, so that a number does not depend on what else is computed with it.
            similarity_N[block] = np.einsum("nd,d->n", vectors, query_D.astype(np.float64))
        return z_of(similarity_N, self.noise[channel].take(rows), self.references[channel].noise)

    def _asked(
        self, channel: Channel, query_QD: np.ndarray, k: int
    ) -> tuple[ChannelIndex, np.ndarray, int, np.ndarray]:
        index = self.indexes[channel]
        queries = np.ascontiguousarray(query_QD, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != index.dims:
            raise SpecificationMismatch(
                f"channel {channel} holds {index.dims} dimensions, the query is {queries.shape}"
            )
        if not np.isfinite(queries).all():
            raise UsageError(f"channel {channel}: the query holds values that are not finite")
        if k < 1:
            raise UsageError(f"k must be at least 1, got {k}")
        withdrawn = self.withdrawals.rows()
        return index, queries, min(k, len(self.songs) - len(withdrawn)), withdrawn


def newest_snapshot(path: AnyPath) -> Path:
    """The folder of the newest complete snapshot of an index; a snapshot's own folder is itself.

    One in a bucket is copied to this machine first, where it is not there already.

    Raises:
        StoreError: there is none. As `StorageError`: its bucket does not answer.
    """
    newest = _newest(locate(path))
    return fetch(newest, read_record(newest).files) if isinstance(newest, RemotePath) else newest


def _newest(path: Location) -> Location:
    if not path.is_dir():
        raise StoreError(f"{path} does not exist: build it with `lumina index STORE --out {path}`")
    if (path / MANIFEST_FILE).is_file():
        return path
    for _, folder in reversed(versions(path)):
        if is_complete(folder):
            return folder
    raise StoreError(f"{path} holds no complete snapshot: build one with `lumina index STORE --out {path}`")


def is_complete(folder: Location) -> bool:
    """Whether a snapshot is all there: one that is still being copied has no record, or not all that it lists.

    Raises:
        StoreError: its record is damaged.
    """
    return (folder / MANIFEST_FILE).is_file() and all((folder / name).is_file() for name in read_record(folder).files)


def load_snapshot(path: AnyPath, shard: Shard | None = None) -> Snapshot:
    """Load an index (its newest complete snapshot) or one snapshot, after checking every file against its sha256.

    Args:
        path: a path, or the address of a bucket.
        shard: the songs that are loaded, and counted from 0; None for all. Where there are none, there are no
            indexes, and files of vectors are not checked.

    Raises:
        StoreError: nothing there, another format, a file that differs from what was written, a calibration of other
            songs, or no list of what was withdrawn.
        UsageError: more shards than songs; or the files of an approximate index cannot be spread over so many.
    """
    # The list of withdrawn songs lies beside the snapshot itself, not beside a link to it.
    folder = newest_snapshot(path).resolve()
    record = read_record(folder)
    if shard:
        _check_split(folder, record, shard.of)
    rows = shard.rows(record.n_songs) if shard else None
    unread = set(_vector_files(record)) if rows is not None and not rows else set()
    for name, sha256 in record.files.items():
        if name in unread:
            continue
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise StoreError(
                f"{folder / name} is missing or damaged (its sha256 is not the one in its record): build it again"
            )
    songs = _read_table(folder / IDS_FILE) if rows is None else _read_songs(folder / IDS_FILE, rows)
    # Arrow puts a column in pieces together anew whenever rows are taken from it: of a million songs, 7 ms a query.
    songs = songs.combine_chunks()
    withdrawals = Withdrawals(folder.parent, songs, record.generation, record.catalog)
    withdrawals.rows()
    equal_songs = _read_table(folder / EQUAL_SONGS_FILE).combine_chunks()
    channels: list[Channel] = [c for c in CHANNELS if c in record.dims]
    searched = channels if rows is None or rows else []
    calibration = read_calibration(folder / CALIBRATION_FILE)
    if EARLIER_FILE in record.files:
        raise StoreError(
            f"{folder} holds membership evidence of an earlier version ({EARLIER_FILE}): run `lumina use` on its store "
            "again, and build the index again"
        )
    membership = read_membership(folder) if MEMBERSHIP_FILE in record.files else None
    measured_on = {calibration.catalog_sha256} | ({membership.basis.catalog_sha256} if membership else set())
    if calibration.sha256 != record.calibration_sha256 or measured_on != {record.data_sha256}:
        raise StoreError(f"{folder}: its calibration or membership evidence is not of its songs: build the index again")
    centres, references = read_centres(folder / CENTRES_FILE, channels)
    shared = read_shared_vectors(folder, record.files)
    return Snapshot(
        version=folder.name,
        record=record,
        songs=songs,
        calibration=calibration,
        noise={c: noise_in(songs, c) for c in channels},
        centres=centres,
        references=references,
        indexes={c: read_channel(folder, c, record.indexes[c], rows) for c in searched},
        withdrawals=withdrawals,
        equal_songs=EqualSongs(equal_songs, withdrawals.of(equal_songs)),
        membership=membership and membership.aligned(songs["song_id"]),
        effects=read_effects(folder / EFFECTS_FILE) if EFFECTS_FILE in record.files else None,
        shared=shared if shared is None or rows is None else shared.of_shard(rows),
    )


def noise_in(songs: pa.Table, channel: Channel) -> SongNoise:
    """Read the noise of songs from the columns of their table."""
    return SongNoise(*(np.from_dlpack(songs[name].combine_chunks()) for name in noise_columns(channel)))


def _check_split(folder: Path, record: SnapshotRecord, of: int) -> None:
    if of > record.n_songs:
        raise UsageError(f"{folder}: {record.n_songs} songs cannot be spread over {of} shards: take fewer")
    for channel, facts in record.indexes.items():
        if not facts.exact and (n_files := len(facts.shards)) % of:
            raise UsageError(
                f"{folder}: channel {channel} lies in {n_files} file(s), which cannot be spread evenly over {of} "
                "shards: take a number that divides it, or build the index with another --memory-gib"
            )


def _read_table(path: Path) -> pa.Table:
    # `pq.read_table` imports pandas, as `to_numpy` of a column does.
    with pq.ParquetFile(path) as file:
        return file.read()


def _read_songs(path: Path, rows: range) -> pa.Table:
    """Some songs of a table, of which no more is held than that and a batch."""
    file, kept, first = pq.ParquetFile(path), [], 0
    for batch in file.iter_batches():
        start, stop = (min(max(row - first, 0), len(batch)) for row in (rows.start, rows.stop))
        if stop > start:
            kept.append(batch.slice(start, stop - start))
        first += len(batch)
    return pa.Table.from_batches(kept, file.schema_arrow)


def _vector_files(record: SnapshotRecord) -> Iterator[str]:
    for channel, facts in record.indexes.items():
        yield from facts.shards
        yield vectors_file(channel)
