"""Evidence as stores, queries and indexes keep it: of each chunk at its own speed, in half precision.

Shape legend: n = chunks of a song, m = chunks that ask, D = numbers of a vector.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lumina_ray.errors import StoreError
from lumina_ray.evidence.maps import maps_sha256, unit_rows
from lumina_ray.evidence.vectors import DIMS, evidence_vectors
from lumina_ray.vocabulary import EVIDENCE, EVIDENCE_VERSION, Evidence

ALGORITHM_VERSION = 1
"""Raise it when the same audio comes to have other vectors. Those of another version are then refused."""
MAX_ASKING = 6
"""Chunks of a query that are described, and no more than half of them, for what they cost."""
_STORED_AS = "<f2"
# Half precision leaves a norm within 1e-3 of 1.
_NORM_TOLERANCE = 2e-3


def evidence_version() -> str:
    """Name what vectors depend on besides audio: those of different versions cannot be compared."""
    return f"{ALGORITHM_VERSION} {maps_sha256()}"


def asking(n: int) -> list[int]:
    """Choose the chunks that ask, of n: half of them, `MAX_ASKING` at most, at equal distances."""
    return [round(i) for i in np.linspace(0, n - 1, min(-(-n // 2), MAX_ASKING))]


def describe(chunks: Sequence[np.ndarray]) -> dict[Evidence, np.ndarray]:
    """Compute the evidence of some chunks, float16 `[n, D]` of each kind.

    Args:
        chunks: int16 samples, as `lumina_ray.audio.Chunk` has them.
    """
    made = [evidence_vectors(samples) for samples in chunks]
    return {name: np.stack([of[name] for of in made]).astype(_STORED_AS) for name in EVIDENCE}


def by_chunk(vectors: Mapping[Evidence, np.ndarray]) -> list[dict[Evidence, np.ndarray]]:
    """Take what `describe` gives apart, as `EvidenceTable.of_chunks` takes it: float32 unit vectors of each chunk."""
    rows = {name: unit_rows(of.astype(np.float32)) for name, of in vectors.items()}
    return [{name: of[i] for name, of in rows.items()} for i in range(len(rows["sound"]))]


def to_columns(vectors: Mapping[Evidence, np.ndarray]) -> dict[str, Any]:
    """Make the values of a store's `EVIDENCE_COLUMNS` of what `describe` gives."""
    return {EVIDENCE_VERSION: evidence_version()} | {name: vectors[name].tobytes() for name in EVIDENCE}


def from_columns(row: Mapping[str, Any]) -> dict[Evidence, np.ndarray] | None:
    """Read the evidence of a store's row, float16 `[n, D]` of each kind; None where it has none of this version.

    Raises:
        StoreError: damaged.
    """
    if row[EVIDENCE_VERSION] != evidence_version():
        return None
    try:
        vectors = {name: np.frombuffer(row[name], _STORED_AS).reshape(-1, DIMS[name]) for name in EVIDENCE}
    except (ValueError, TypeError) as error:
        raise StoreError(f"damaged evidence: {error}") from error
    whole = len({len(of) for of in vectors.values()}) == 1 and len(vectors["sound"]) > 0
    for of in vectors.values():
        whole &= bool((np.abs(np.linalg.norm(of.astype(np.float32), axis=1) - 1) <= _NORM_TOLERANCE).all())
    if not whole:
        raise StoreError("damaged evidence: no unit vectors of as many chunks in each kind")
    return vectors
