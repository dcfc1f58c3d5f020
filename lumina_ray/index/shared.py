"""Shared evidence in a snapshot: the vectors of each song's chunks, which stay on disk, and their noise.

Shape legend: N = songs, n = their chunks, m = chunks of a query, s = songs of interest, D = numbers of a vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lumina_ray.calibration.shared import SHARED_FILE, Shared, SharedBasis, hub_column, read_shared, write_shared
from lumina_ray.errors import StoreError
from lumina_ray.vocabulary import COMPARED, EVIDENCE, Compared, Evidence

if TYPE_CHECKING:
    from lumina_ray.store import Store


@dataclass(frozen=True)
class SharedVectors:
    """Shared evidence of the songs of a snapshot, or of a part of one.

    Attributes:
        file_sha256: of the snapshot's `shared.parquet`.
        chunks: int64 `[N]`, how many each song has; 0 where it has no evidence.
        firsts: int64 `[N]`, row of each song's first chunk in `vectors`.
        hubs: of each of `COMPARED`, float64 `[N]`, which a song's likeness is less.
        vectors: by kind, float16 `[n, D]`.
    """

    basis: SharedBasis
    file_sha256: str
    chunks: np.ndarray
    firsts: np.ndarray
    hubs: dict[Compared, np.ndarray]
    vectors: dict[Evidence, np.ndarray]

    def take(self, rows: np.ndarray) -> "SharedVectors":
        """Give those of some songs, in memory."""
        chunks_s = self.chunks[rows]
        places = _places(self.firsts[rows], chunks_s)
        return SharedVectors(
            self.basis,
            self.file_sha256,
            chunks_s,
            np.cumsum(chunks_s) - chunks_s,
            {name: of[rows] for name, of in self.hubs.items()},
            {name: np.asarray(of[places]) for name, of in self.vectors.items()},
        )

    def of_shard(self, rows: range) -> "SharedVectors":
        """Give those of consecutive songs, left on disk."""
        part = slice(rows.start, rows.stop)
        hubs = {name: of[part] for name, of in self.hubs.items()}
        return SharedVectors(self.basis, self.file_sha256, self.chunks[part], self.firsts[part], hubs, self.vectors)

    def similarities(self, asked: Mapping[Evidence, np.ndarray], rows: np.ndarray) -> dict[Compared, np.ndarray]:
        """Compute the mean over a query's chunks of the best cosine with a song's chunks, float64 `[s]` of each.

        Args:
            asked: by kind, unit vectors `[m, D]`.
            rows: int64 `[s]`, of songs that have evidence.
        """
        if not len(rows):
            return {name: np.empty(0) for name in COMPARED}
        from lumina_ray.evidence.aspects import part_of

        chunks_s = self.chunks[rows]
        places, starts_s = _places(self.firsts[rows], chunks_s), np.cumsum(chunks_s) - chunks_s
        heard = {name: np.asarray(of[places]) for name, of in self.vectors.items()}
        found: dict[Compared, np.ndarray] = {}
        for name in COMPARED:
            # Not through BLAS, whose last bits depend on what else is multiplied.
            cosines_mn = np.einsum("md,nd->mn", part_of(name, asked), part_of(name, heard))
            found[name] = np.maximum.reduceat(cosines_mn, starts_s, axis=1).mean(axis=0, dtype=np.float64)
        return found


def together(parts: Sequence[SharedVectors | None]) -> SharedVectors | None:
    """Put what `take` gave of several parts of a snapshot together; None if there are none, or one has none."""
    some = [part for part in parts if part is not None]
    if len(some) < len(parts) or not some:
        return None
    chunks = np.concatenate([part.chunks for part in some])
    return SharedVectors(
        some[0].basis,
        some[0].file_sha256,
        chunks,
        np.cumsum(chunks) - chunks,
        {name: np.concatenate([part.hubs[name] for part in some]) for name in COMPARED},
        {name: np.concatenate([part.vectors[name] for part in some]) for name in EVIDENCE},
    )


def evidence_file(evidence: Evidence) -> str:
    """Name of a snapshot's file of vectors."""
    return f"shared-{evidence}.npy"


def write_shared_vectors(shared: Shared, store: "Store", rows: np.ndarray, folder: Path) -> None:
    """Write the shared evidence of a store's songs into a snapshot.

    Args:
        shared: of these songs.
        rows: of the songs, in the order of the snapshot.

    Raises:
        StoreError: the store was changed since it was calibrated.
    """
    # Which knows the numbers of a vector, and brings SciPy with it.
    from lumina_ray.evidence.vectors import DIMS

    write_shared(shared, folder)
    chunks = shared.songs["chunks"].to_numpy().astype(np.int64)
    firsts, places = np.cumsum(chunks) - chunks, {int(row): place for place, row in enumerate(rows)}
    n, left = int(chunks.sum()), int((chunks > 0).sum())
    vectors = {
        name: np.lib.format.open_memmap(folder / evidence_file(name), "w+", "<f2", (n, DIMS[name])) for name in EVIDENCE
    }
    for row, of_song in store.evidence():
        place = places.get(row)
        if place is None or of_song is None:
            continue
        if len(of_song["sound"]) != chunks[place]:
            raise StoreError(f"{store.path} was changed since it was calibrated: run `lumina calibrate` again")
        left -= 1
        for name in EVIDENCE:
            vectors[name][firsts[place] : firsts[place] + chunks[place]] = of_song[name]
    if left:
        raise StoreError(f"{store.path} was changed since it was calibrated: run `lumina calibrate` again")
    for matrix in vectors.values():
        matrix.flush()


def read_shared_vectors(folder: Path, files: Mapping[str, str]) -> SharedVectors | None:
    """Read the shared evidence of all songs of a snapshot; None if it has none of this version of the software.

    Args:
        files: name → sha256, as in the snapshot's record.

    Raises:
        StoreError: damaged.
    """
    if SHARED_FILE not in files or (shared := read_shared(folder)) is None:
        return None
    # SciPy comes with it, which a snapshot without evidence does not need.
    from lumina_ray.evidence.kept import evidence_version

    if shared.basis.version != evidence_version():
        return None
    # `to_numpy` of a column imports pandas.
    columns = {name: np.from_dlpack(shared.songs[name].combine_chunks()) for name in shared.songs.column_names[1:]}
    chunks = columns["chunks"].astype(np.int64)
    return SharedVectors(
        shared.basis,
        files[SHARED_FILE],
        chunks,
        np.cumsum(chunks) - chunks,
        {name: columns[hub_column(name)] for name in COMPARED},
        {name: np.load(folder / evidence_file(name), mmap_mode="r") for name in EVIDENCE},
    )


def _places(firsts_s: np.ndarray, chunks_s: np.ndarray) -> np.ndarray:
    """Rows of all chunks of some songs, one song after the other."""
    offsets = np.arange(int(chunks_s.sum())) - np.repeat(np.cumsum(chunks_s) - chunks_s, chunks_s)
    return np.repeat(firsts_s, chunks_s) + offsets
