"""Approximate search that ends in exact scores: FAISS proposes candidates, exact vectors on disk decide.

Q queries, N songs, D dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import faiss
import numpy as np

from lumina_ray.calibration.vectors import blocks
from lumina_ray.index.exact import exact_nearest

# Recall is measured at this k. A search for fewer looks at as many candidates, or it would find fewer of them.
RECALL_K = 100
# From 20 queries on, FAISS compares queries and lists by a matrix product, whose last bits depend on the batch.
_BATCH = 16


@dataclass(frozen=True)
class ApproximateIndex:
    """A channel of a snapshot whose FAISS index is smaller or faster than its vectors.

    Attributes:
        shards: indexes of consecutive rows, which each counts from 0.
        exact_ND: float32, memory-mapped: the system keeps in memory what is asked for often, and no more.
        effort: `nprobe` of an inverted file, `efSearch` of HNSW; nothing to others.
        oversampling: candidates that are scored again, as a multiple of k, or of 100 where k is less.
    """

    shards: tuple[faiss.Index, ...]
    exact_ND: np.ndarray
    effort: int
    oversampling: int

    @property
    def dims(self) -> int:
        return self.exact_ND.shape[1]

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Float32 `[len(rows), D]`."""
        return np.asarray(self.exact_ND[rows])

    def candidates(self, queries_QD: np.ndarray, k: int, withdrawn: np.ndarray) -> Iterator[np.ndarray]:
        """For each query at least k rows (int64) among which its k nearest are looked for."""
        n = min(max(k, RECALL_K) * self.oversampling, len(self.exact_ND) - len(withdrawn))
        for q, rows in enumerate(self.nearest(queries_QD, n, withdrawn)):
            found = rows[rows >= 0]
            # The lists that were probed may hold fewer: asking for most of the catalog is asking for a scan of it.
            yield found if len(found) >= k else exact_nearest(self.exact_ND, queries_QD[q : q + 1], k, withdrawn)[0]

    def nearest(self, queries_QD: np.ndarray, n: int, withdrawn: np.ndarray) -> np.ndarray:
        """int64 `[Q, n]`, the rows whose codes are nearest, best first, of all shards together; -1 for want of any."""
        found_QN = np.empty((len(queries_QD), n), np.int64)
        for block in blocks(len(queries_QD), _BATCH):
            scores, rows = [], []
            for shard, start in zip(self.shards, self._starts(), strict=True):
                gone = withdrawn[(withdrawn >= start) & (withdrawn < start + shard.ntotal)] - start
                parameters = search_parameters(shard, self.effort, n, gone)
                shard_scores, shard_rows = shard.search(queries_QD[block], n, params=parameters)
                scores.append(shard_scores)
                rows.append(np.where(shard_rows >= 0, shard_rows + start, -1))
            all_scores, all_rows = np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)
            # FAISS scores what it did not find lower than anything.
            best = np.argsort(-all_scores, axis=1, kind="stable")[:, :n]
            found_QN[block] = np.take_along_axis(all_rows, best, axis=1)
        return found_QN

    def _starts(self) -> list[int]:
        return list(accumulate((shard.ntotal for shard in self.shards[:-1]), initial=0))


def search_parameters(index: faiss.Index, effort: int, k: int, withdrawn: np.ndarray) -> Any:
    """FAISS's parameters for one search of one shard, which leaves out withdrawn rows."""
    options: dict[str, Any] = {}
    if len(withdrawn):
        options["sel"] = faiss.IDSelectorNot(faiss.IDSelectorBatch(withdrawn))
    # FAISS's annotations lack some of these classes, and the keywords of all.
    classes: Any = faiss
    match effort_name(index):
        case "nprobe":
            parameters = classes.SearchParametersIVF(nprobe=effort, **options)
        case "efSearch":
            parameters = classes.SearchParametersHNSW(efSearch=max(effort, k), **options)
        case None:
            parameters = classes.SearchParameters(**options)
    if isinstance(index, faiss.IndexPreTransform):
        return classes.SearchParametersPreTransform(index_params=parameters)
    return parameters


def effort_name(index: faiss.Index) -> Literal["nprobe", "efSearch"] | None:
    """FAISS's name of the parameter by which an index trades time for recall, if it has one."""
    inner = searched(index)
    if isinstance(inner, faiss.IndexIVF):
        return "nprobe"
    return "efSearch" if isinstance(inner, faiss.IndexHNSW) else None


def searched(index: faiss.Index) -> Any:
    """The index under a transform of vectors, such as OPQ, or the index itself."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
