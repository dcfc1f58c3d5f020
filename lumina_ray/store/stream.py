"""A finished store or living catalog whose vectors stay on disk: it may be larger than memory."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.errors import StoreError
from lumina_ray.files import temporary_matrix
from lumina_ray.fingerprint import Specification
from lumina_ray.storage import AnyPath, Location, locate
from lumina_ray.store.read import (
    Store,
    list_data_files,
    read_data_files,
    read_finished_run,
    read_rows,
    sort_rows,
    take_rows,
)
from lumina_ray.store.schema import store_schema
from lumina_ray.store.segments import Segment, current_segments
from lumina_ray.vocabulary import EVIDENCE_COLUMNS, Channel, Evidence, SongCodes


@dataclass(frozen=True)
class StreamedStore(Store):
    """A store with only its small columns in memory: `songs` and `failed` have neither codes nor vectors.

    Attributes:
        segments: the stores that it is read from.
        places: int64 `[N]`, the row in `songs` of each song in the order of the segments' files.
    """

    segments: tuple[Segment, ...] = ()
    places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    _mapped: dict[Channel, np.ndarray] = field(default_factory=dict)

    def vectors(self, channel: Channel) -> np.ndarray:
        """Fingerprints, float32 `[N, D]`, unit vectors; row i belongs to `song_ids[i]`.

        They are in a temporary file in TMPDIR, mapped into memory. It is deleted with the last reference to it.

        Raises:
            StoreError: the store was changed since it was opened, or there is no room in TMPDIR.
        """
        if channel not in self._mapped:
            self._mapped[channel] = self._map(channel)
        return self._mapped[channel]

    def evidence(self) -> Iterator[tuple[int, dict[Evidence, np.ndarray] | None]]:
        """Give what `Store.evidence` gives. One data file at a time is in memory.

        Raises:
            StoreError: damaged, or changed since it was opened.
        """
        from lumina_ray.evidence.kept import from_columns

        done = 0
        for segment in self.segments:
            for path in list_data_files(segment.folder):
                columns = ["song_id", "status", *EVIDENCE_COLUMNS]
                for values in _ok(segment, read_data_files([path], self.specification, columns)).to_pylist():
                    if done == len(self.songs):
                        raise self._changed
                    yield int(self.places[done]), from_columns(values)
                    done += 1
        if done < len(self.songs):
            raise self._changed

    @property
    def _changed(self) -> StoreError:
        return StoreError(f"{self.path} was changed while it was read; run the same command again")

    def _map(self, channel: Channel) -> np.ndarray:
        dims = self.specification.dims[channel]
        vectors_ND = temporary_matrix(len(self.songs), dims)
        done = 0
        for segment in self.segments:
            for path in list_data_files(segment.folder):
                rows = _ok(segment, read_data_files([path], self.specification, ["song_id", "status", channel]))
                places = self.places[done : done + len(rows)]
                if len(places) < len(rows):
                    raise self._changed
                vectors_ND[places] = rows[channel].combine_chunks().flatten().to_numpy().reshape(len(rows), dims)
                done += len(rows)
        if done < len(self.songs):
            raise self._changed
        return vectors_ND


def stream_store(path: AnyPath) -> StreamedStore:
    """Open a finished store, or a living catalog as it is now; its vectors stay on disk.

    Raises:
        StoreError: neither of the two, or damaged.
    """
    path = locate(path)
    segments, generation = current_segments(path)
    runs = [read_finished_run(segment.folder) for segment in segments]
    specification = runs[0].specification
    large = {specification.representation, "heard", *specification.channels, *EVIDENCE_COLUMNS}
    columns = [name for name in store_schema(specification).names if name not in large]
    try:
        tables = [segment.present(read_rows(segment.folder, specification, columns)) for segment in segments]
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise StoreError(f"{path}: damaged data: {error}") from error
    rows = pa.concat_tables(tables)
    ok = pc.equal(rows["status"], "ok")
    songs, failed = rows.filter(ok), sort_rows(rows.filter(pc.invert(ok)))
    order = pc.sort_indices(songs["song_id"])
    places = np.empty(len(order), np.int64)
    places[order.to_numpy()] = np.arange(len(order))
    run = replace(runs[0], n_songs=len(rows))
    return StreamedStore(path, run, take_rows(songs, order), failed, generation, segments, places)


def stored_codes(store: StreamedStore) -> Iterator[SongCodes]:
    """Codes of every song in the order of `places`. One data file at a time is in memory.

    Raises:
        StoreError: damaged.
    """
    for _, codes in stored_songs(store):
        yield codes


def stored_songs(store: StreamedStore) -> Iterator[tuple[str, SongCodes]]:
    """Ids and codes of every song in the order of `places`. One data file at a time is in memory.

    Raises:
        StoreError: damaged.
    """
    for segment in store.segments:
        for path in list_data_files(segment.folder):
            yield from data_file_codes(segment, path, store.specification)


def codes_of(store: StreamedStore, song_ids: Collection[str]) -> dict[str, SongCodes]:
    """Codes of some songs. Only data files that hold one of them are read.

    Raises:
        StoreError: damaged, or without one of the songs.
    """
    wanted, found = set(song_ids), dict[str, SongCodes]()
    for segment in store.segments:
        for path in list_data_files(segment.folder):
            ids = _ok(segment, read_data_files([path], store.specification, ["song_id", "status"]))["song_id"]
            if wanted.isdisjoint(ids.to_pylist()):
                continue
            songs = data_file_codes(segment, path, store.specification)
            found |= {song_id: codes for song_id, codes in songs if song_id in wanted}
    if missing := wanted - found.keys():
        raise StoreError(f"{store.path} lacks {len(missing)} of the songs, such as {sorted(missing)[0]!r}")
    return found


def data_file_codes(segment: Segment, path: Location, specification: Specification) -> Iterator[tuple[str, SongCodes]]:
    """Ids and codes of the songs in one data file of a segment, chunk by chunk as they were fingerprinted.

    Raises:
        StoreError: damaged.
    """
    representation, n_rows = specification.representation, len(specification.codebook_weights)
    columns = ["song_id", "status", representation, "heard", "chunk_frames", "chunk_starts_s"]
    for row in _ok(segment, read_data_files([path], specification, columns)).to_pylist():
        codes, heard, frames, starts_s = (row[name] for name in columns[2:])
        yield row["song_id"], SongCodes.from_bytes(codes, heard, n_rows, frames, starts_s, representation)


def _ok(segment: Segment, rows: pa.Table) -> pa.Table:
    present = segment.present(rows)
    return present.filter(pc.equal(present["status"], "ok"))
