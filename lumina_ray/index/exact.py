"""Exact search: over an index in memory, and over vectors that may be on disk. Q queries, N songs, D dimensions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from lumina_ray.calibration.vectors import blocks

# FAISS adds up in float32, in an order that depends on the batch: scores this close may come in any order.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class FlatIndex:
    """All vectors of a channel in memory, each compared with each query."""

    index: faiss.Index

    @property
    def dims(self) -> int:
        return self.index.d

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Float32 `[len(rows), D]`."""
        return self.index.reconstruct_batch(np.asarray(rows, dtype=np.int64))

    def candidates(self, queries_QD: np.ndarray, k: int, withdrawn: np.ndarray) -> Iterator[np.ndarray]:
        """For each query, rows (int64) among which its k nearest are, however float32 rounds."""
        if k >= self.index.ntotal - len(withdrawn):
            everything = np.arange(self.index.ntotal)
            if len(withdrawn):
                everything = np.setdiff1d(everything, withdrawn, assume_unique=True)
            yield from (everything for _ in queries_QD)
            return
        # FAISS's annotations lack the keywords that the class takes.
        present: Any = faiss.SearchParameters
        parameters = present(sel=faiss.IDSelectorNot(faiss.IDSelectorBatch(withdrawn))) if len(withdrawn) else None
        # One more than asked for shows whether the cut falls between scores that rounding could swap.
        scores, rows = self.index.search(queries_QD, k + 1, params=parameters)
        for q, query in enumerate(queries_QD):
            found = rows[q][rows[q] >= 0]
            if len(found) > k and scores[q, k - 1] - scores[q, k] <= _ROUNDING:
                radius = float(scores[q, k - 1]) - _ROUNDING
                _, _, found = self.index.range_search(query[None], radius, params=parameters)
            yield found


def flat_index(vectors_ND: np.ndarray) -> faiss.IndexFlatIP:
    """FAISS's exact index of some vectors."""
    index = faiss.IndexFlatIP(vectors_ND.shape[1])
    for block in blocks(len(vectors_ND)):
        index.add(vectors_ND[block])
    return index


def exact_nearest(vectors_ND: np.ndarray, queries_QD: np.ndarray, k: int, withdrawn: np.ndarray) -> np.ndarray:
    """The k nearest rows of each query, best first, reading the vectors once and in blocks.

    Args:
        vectors_ND: float32, in memory or mapped.
        k: at most the rows that are not withdrawn.
        withdrawn: rows to leave out, int64.

    Returns:
        int64 `[Q, k]`; scores that float32 cannot tell apart come in any order.
    """
    best = faiss.ResultHeap(len(queries_QD), k, keep_max=True)
    for block in blocks(len(vectors_ND)):
        rows = np.setdiff1d(np.arange(block.start, block.stop), withdrawn, assume_unique=True)
        if len(rows):
            present = np.ascontiguousarray(vectors_ND[rows] if len(withdrawn) else vectors_ND[block])
            scores, found = faiss.knn(queries_QD, present, min(k, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
            best.add_result(scores, rows[found])
    best.finalize()
    return best.I
