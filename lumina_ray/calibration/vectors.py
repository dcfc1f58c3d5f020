"""Checks and sums over catalog vectors. Shapes: N songs, C controls, D fingerprint dimensions."""

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lumina_ray.errors import StoreError
from lumina_ray.files import temporary_matrix
from lumina_ray.storage import AnyPath, RemotePath, locate

if TYPE_CHECKING:
    from lumina_ray.store import Store

_BLOCK = 4096
# Vectors are stored in float32 after normalisation: rounding leaves a norm within 1e-6 of 1.
_NORM_TOLERANCE = 1e-3


def blocks(n: int, size: int = _BLOCK) -> Iterator[slice]:
    """Slices that cover `range(n)`, so that float64 copies stay small."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def check_unit_rows(vectors_ND: np.ndarray, name: str) -> None:
    """Refuse anything but a matrix of finite unit vectors.

    Raises:
        StoreError: naming the first bad row and its norm.
    """
    if vectors_ND.ndim != 2 or 0 in vectors_ND.shape:
        raise StoreError(f"{name}: vectors must be a non-empty matrix [n, D], got shape {vectors_ND.shape}")
    for block in blocks(len(vectors_ND)):
        norms = np.linalg.norm(vectors_ND[block].astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))
        if bad.size:
            row = block.start + int(bad[0])
            raise StoreError(
                f"{name}: row {row} is not a finite unit vector (its norm is {norms[bad[0]]:.6g}); "
                "fingerprint that song again"
            )


def catalog_centre(vectors_ND: np.ndarray) -> np.ndarray:
    """Compute the mean vector of a catalog, float64 `[D]`."""
    centre_D = np.zeros(vectors_ND.shape[1])
    for block in blocks(len(vectors_ND)):
        centre_D += vectors_ND[block].sum(axis=0, dtype=np.float64)
    return centre_D / len(vectors_ND)


def opened(store: "Store | AnyPath") -> "Store":
    """The store itself, or the store that lies at a path or an address."""
    # Stores that are open already need no import of what opens them.
    if not isinstance(store, str | os.PathLike | RemotePath):
        return store
    from lumina_ray.store import stream_store

    return stream_store(locate(store))


def usable_songs(store: "Store") -> tuple[np.ndarray, dict[str, str]]:
    """Rows of a store that may enter a calibration or an index: finite and non-zero in both channels.

    Returns:
        rows: int64, ascending, each once.
        excluded: song id → why.

    Raises:
        StoreError: ids that occur twice, or no song left.
    """
    song_ids = store.song_ids
    seen: set[str] = set()
    twice = sorted({s for s in song_ids if s in seen or seen.add(s)})  # type: ignore[func-returns-value]
    if twice:
        raise StoreError(f"{store.path}: song ids occur more than once: {', '.join(twice[:5])}")
    usable = np.ones(len(song_ids), dtype=bool)
    excluded: dict[str, str] = {}
    for channel in store.specification.channels:
        vectors = store.vectors(channel)
        finite, zero = np.empty(len(vectors), bool), np.empty(len(vectors), bool)
        for block in blocks(len(vectors)):
            finite[block] = np.isfinite(vectors[block]).all(axis=1)
            zero[block] = ~vectors[block].any(axis=1)
        for mask, reason in ((~finite, "not finite"), (zero, "zero")):
            for row in np.flatnonzero(mask & usable):
                excluded[song_ids[row]] = f"the {channel} vector is {reason}"
            usable &= ~mask
    if not usable.any():
        raise StoreError(f"{store.path}: no song with finite, non-zero vectors (of {len(song_ids)} fingerprinted)")
    return np.flatnonzero(usable), excluded


def take(vectors_ND: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of a float32 matrix, ascending: itself where they are all of it, a copy on disk where it lies there."""
    if len(rows) == len(vectors_ND):
        return vectors_ND
    if not isinstance(vectors_ND, np.memmap):
        return vectors_ND[rows]
    taken = temporary_matrix(len(rows), vectors_ND.shape[1])
    for block in blocks(len(rows)):
        taken[block] = vectors_ND[rows[block]]
    return taken


def store_sha256(store: "Store") -> str:
    """Hash of what a store's numbers are: specification, song ids, codes and vectors; titles may change freely."""
    digest = hashlib.sha256(store.specification.sha256.encode())
    for song_id, codes in zip(store.song_ids, store.songs["codes_sha256"].to_pylist(), strict=True):
        digest.update(f"{song_id}\0{codes}\n".encode())
    for channel in store.specification.channels:
        vectors = store.vectors(channel)
        for block in blocks(len(vectors)):
            digest.update(np.ascontiguousarray(vectors[block], dtype="<f4").tobytes())
    return digest.hexdigest()
