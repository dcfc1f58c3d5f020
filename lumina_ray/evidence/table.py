"""Evidence of many songs: the vectors of each song's chunks, in one Parquet file.

Shape legend: N = songs, n = chunks of all songs, V = speeds that a chunk is described at, D = numbers of a vector.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumina_ray.audio import load_chunks
from lumina_ray.errors import AudioError, SpecificationMismatch, StoreError, UsageError
from lumina_ray.evidence.kept import evidence_version
from lumina_ray.evidence.vectors import DIMS, evidence_vectors, query_vectors
from lumina_ray.files import atomic_path
from lumina_ray.storage import AnyPath, local
from lumina_ray.vocabulary import EVIDENCE, Evidence

_METADATA_KEY = b"lumina_ray_evidence"

Progress = Callable[[int, int, str], None]
"""Function that is called with the number of songs that are done, the number of all, and the last song's id."""


@dataclass(frozen=True)
class EvidenceTable:
    """Evidence of N songs.

    Attributes:
        song_ids: of each song.
        chunks: how many chunks each song has, at least 1.
        vectors: by kind of evidence, float32 `[n, V, D]` unit vectors of all chunks, song by song. V is 1 in a catalog;
            what asks has as many in `composition` as there are `SPEEDS`, that of speed 1 first.
        failed: pairs of a song's id and why it is not in the table.
    """

    song_ids: tuple[str, ...]
    chunks: tuple[int, ...]
    vectors: dict[Evidence, np.ndarray]
    failed: tuple[tuple[str, str], ...] = field(default=())

    @cached_property
    def firsts(self) -> np.ndarray:
        """Row of each song's first chunk, int64 `[N]`."""
        return np.concatenate([[0], np.cumsum(self.chunks)[:-1]]).astype(np.int64)

    @classmethod
    def of_songs(
        cls,
        songs: Iterable[tuple[str, AnyPath]],
        total: int = 0,
        progress: Progress | None = None,
        *,
        asks: bool = False,
    ) -> Self:
        """Decode songs and compute their evidence, one after the other. A song that cannot be used is `failed`.

        Args:
            songs: pairs of an id and an audio file.
            total: how many there are, for `progress`.
            progress: called after each song.
            asks: whether the songs are queries or controls, and are described at all `SPEEDS`.

        Raises:
            UsageError: no song is left.
        """
        song_ids: list[str] = []
        rows: list[list[dict[Evidence, np.ndarray]]] = []
        failed: list[tuple[str, str]] = []
        for done, (song_id, path) in enumerate(songs, start=1):
            try:
                chunks = load_chunks(path).chunks
            except AudioError as error:
                failed.append((song_id, str(error)))
            else:
                song_ids.append(song_id)
                rows.append([(query_vectors if asks else evidence_vectors)(chunk.samples) for chunk in chunks])
            if progress:
                progress(done, total, song_id)
        if not song_ids:
            why = f", such as {failed[0][1]}" if failed else ""
            raise UsageError(f"none of {len(failed)} songs can be used{why}")
        return cls.of_chunks(song_ids, rows, failed)

    @classmethod
    def of_chunks(
        cls,
        song_ids: Sequence[str],
        rows: Sequence[Sequence[dict[Evidence, np.ndarray]]],
        failed: Sequence[tuple[str, str]] = (),
    ) -> Self:
        """Put together what `evidence_vectors` or `query_vectors` gave for each chunk of each song."""
        flat = [vectors for of_song in rows for vectors in of_song]
        stacked = {name: np.stack([vectors[name].reshape(-1, DIMS[name]) for vectors in flat]) for name in EVIDENCE}
        return cls(tuple(song_ids), tuple(len(of_song) for of_song in rows), stacked, tuple(failed))


def write_table(table: EvidenceTable, path: Path) -> None:
    """Write a table. Songs that failed are not in the file."""
    columns: dict[str, pa.Array] = {
        "song_id": pa.array([song for song, n in zip(table.song_ids, table.chunks, strict=True) for _ in range(n)])
    }
    for name in EVIDENCE:
        vectors_nVD = table.vectors[name].astype(np.float32)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(vectors_nVD.ravel()), vectors_nVD[0].size)
    written = pa.table(columns).replace_schema_metadata({_METADATA_KEY: evidence_version().encode()})
    with atomic_path(path) as temporary:
        pq.write_table(written, temporary)


def read_table(path: AnyPath) -> EvidenceTable:
    """Read a table that `write_table` wrote.

    Raises:
        StoreError: there is none, or it is damaged.
        UsageError: it is in a bucket.
        SpecificationMismatch: another version of the software made its vectors.
    """
    place = local(path)
    again = "make it again with `lumina evidence build`"
    if not place.is_file():
        raise StoreError(f"{place}: no table of evidence; make one with `lumina evidence build`")
    try:
        with place.open("rb") as file:
            read = pq.read_table(file)
        version = (read.schema.metadata or {}).get(_METADATA_KEY)
        if version is None:
            raise StoreError(f"{place} is no table of evidence; {again}")
        if version.decode() != evidence_version():
            raise SpecificationMismatch(f"{place} was made by another version of this software; {again}")
        ids = read["song_id"].to_pylist()
        vectors = {
            name: read[name].combine_chunks().flatten().to_numpy().reshape(len(ids), -1, DIMS[name])
            for name in EVIDENCE
        }
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{place} is damaged ({error}); {again}") from error
    begins = [i for i, song in enumerate(ids) if i == 0 or song != ids[i - 1]]
    song_ids = [ids[i] for i in begins]
    if len(set(song_ids)) != len(song_ids) or None in song_ids or not song_ids:
        raise StoreError(f"{place} is damaged: a song has no id, or its chunks lie apart; {again}")
    for name, rows in vectors.items():
        if not (np.abs(np.linalg.norm(rows.astype(np.float64), axis=2) - 1) < 1e-3).all():
            raise StoreError(f"{place} is damaged: a vector of {name} has not length 1; {again}")
    return EvidenceTable(tuple(song_ids), tuple(np.diff([*begins, len(ids)]).tolist()), vectors)
