"""How much of exact search an approximate index finds, and how hard it must try for that.

Measured on songs of the catalog, each with noise of the same length added: like music that has a song in it, and too
far from the song for its list to be found by luck.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import faiss
import numpy as np

from lumina_ray.errors import StoreError
from lumina_ray.index.approximate import RECALL_K, ApproximateIndex, effort_name, searched
from lumina_ray.index.exact import exact_nearest
from lumina_ray.index.pieces import sample

RECALL_BOUND = 0.99
_QUERIES = 200
_SEED = 1
_OVERSAMPLING = (1, 2, 4, 8, 16, 32)
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True)
class Tuned:
    """An index with the least effort that reaches the bound.

    Attributes:
        recall: of the 100 songs that exact search finds, the fraction that is found, mean over queries.
    """

    index: ApproximateIndex
    recall: float
    n_queries: int


def tune(index: ApproximateIndex, kind: str, bound: float = RECALL_BOUND) -> Tuned:
    """Raise effort, and at each effort the number of candidates, until recall@100 reaches the bound.

    Candidates are scored again exactly, so a song is found once it is among them.

    Raises:
        StoreError: out of reach, or the kind cannot leave out withdrawn songs.
    """
    queries_QD = disturbed_songs(index.exact_ND)
    k = min(RECALL_K, len(index.exact_ND))
    true_QK = exact_nearest(index.exact_ND, queries_QD, k, _NOTHING)
    _check_withdrawal(index, queries_QD[:1], kind)
    recall, effort = 0.0, 0
    for effort in _efforts(index.shards[0]):
        # HNSW keeps as many candidates as its effort: with more, the effort would be another one.
        most = min(k * _OVERSAMPLING[-1], effort if effort_name(index.shards[0]) == "efSearch" else len(index.exact_ND))
        found_QN = replace(index, effort=effort).nearest(queries_QD, min(most, len(index.exact_ND)), _NOTHING)
        for oversampling in _OVERSAMPLING:
            recall = recall_of(found_QN[:, : k * oversampling], true_QK)
            if recall >= bound:
                return Tuned(replace(index, effort=effort, oversampling=oversampling), recall, len(queries_QD))
            if k * oversampling >= most:
                break
    tried = f"{effort_name(index.shards[0])} = {effort} and " if effort_name(index.shards[0]) else ""
    raise StoreError(
        f"an index of kind {kind!r} finds {recall:.4f} of the {k} nearest songs, and at least {bound} are asked for, "
        f"even with {tried}{_OVERSAMPLING[-1]} times as many candidates; choose a --kind with finer codes, such as one "
        "that ends in SQ8, or a lower --recall"
    )


def disturbed_songs(vectors_ND: np.ndarray) -> np.ndarray:
    """Float32 `[Q, D]` unit vectors: songs with noise of the same length added."""
    rng = np.random.default_rng(_SEED)
    songs_QD = sample(vectors_ND, min(_QUERIES, len(vectors_ND)), rng)
    noise_QD = rng.normal(size=songs_QD.shape)
    sums = songs_QD + noise_QD / np.linalg.norm(noise_QD, axis=1, keepdims=True)
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


def recall_of(found_QN: np.ndarray, true_QK: np.ndarray) -> float:
    """The fraction of true rows that are among the found ones, mean over queries."""
    pairs = zip(found_QN, true_QK, strict=True)
    return float(np.mean([np.isin(true, found).mean() for found, true in pairs]))


def _efforts(index: faiss.Index) -> Iterable[int]:
    """Powers of two, as far as they make a difference."""
    match effort_name(index):
        case "nprobe":
            n_lists = searched(index).nlist
            return (*(1 << i for i in range((n_lists - 1).bit_length())), n_lists)
        case "efSearch":
            return (1 << i for i in range(7, max(index.ntotal, 128).bit_length() + 1))
    return (0,)


def _check_withdrawal(index: ApproximateIndex, query_1D: np.ndarray, kind: str) -> None:
    """Some of FAISS's kinds refuse to leave anything out, and songs that are opted out must never be found."""
    try:
        first = index.nearest(query_1D, 1, _NOTHING)[0]
        left_out = first not in index.nearest(query_1D, 1, first)[0]
    except RuntimeError:
        left_out = False
    if not left_out:
        raise StoreError(f"an index of kind {kind!r} cannot leave out withdrawn songs: choose another --kind")
