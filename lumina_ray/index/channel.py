"""One channel of a snapshot on disk: built, and read back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from lumina_ray.calibration.vectors import blocks
from lumina_ray.errors import StoreError
from lumina_ray.files import reserve
from lumina_ray.index.approximate import ApproximateIndex, effort_name
from lumina_ray.index.exact import FlatIndex, flat_index
from lumina_ray.index.files import shard_file, vectors_file
from lumina_ray.index.kinds import FLAT
from lumina_ray.index.pieces import ShardPiece, build_piece, merge, n_shards, plan_pieces, train
from lumina_ray.index.recall import RECALL_BOUND, tune
from lumina_ray.index.record import ChannelRecord
from lumina_ray.vocabulary import Channel

ChannelIndex = FlatIndex | ApproximateIndex
# Candidates whose vectors are held at once, besides those that are kept: of 4096 numbers, 32 MiB.
_SCORED_AT_ONCE = 1024
# Applies a function to each item, here or elsewhere, and gives the results in order; the built-in `map` is one.
Each = Callable[[Callable[[ShardPiece], Path], Sequence[ShardPiece]], Iterable[Path]]


@dataclass(frozen=True)
class IndexConfig:
    """Settings of an index build.

    Attributes:
        kind: "auto" (see `lumina_ray.index.kinds`) or a FAISS factory string.
        memory_bytes: of all channels' FAISS indexes on a host that searches; None for 0.35 of this host's memory.
        recall: recall@100 that an approximate index must reach, or the build fails.
        effects: file of what similarities are worth in nats (`lumina effects fit`), which then is in the index.
        effects_kind: the kind of query that they were fitted on; may be left out where the file has one.
    """

    kind: str = "auto"
    memory_bytes: float | None = None
    recall: float = RECALL_BOUND
    effects: Path | None = None
    effects_kind: str | None = None


@dataclass(frozen=True)
class Found:
    """The k nearest songs of one query, most similar first, equal ones by row.

    Attributes:
        rows: int64 `[k]`.
        similarity: float64 `[k]`, inner products.
        vectors: float64 `[k, D]`.
    """

    rows: np.ndarray
    similarity: np.ndarray
    vectors: np.ndarray


def write_vectors(vectors_ND: np.ndarray, rows: np.ndarray, path: Path) -> np.ndarray:
    """Write some rows of a matrix to an `.npy` file, float32, and return the file's array, memory-mapped."""
    written = np.lib.format.open_memmap(path, "w+", np.float32, (len(rows), vectors_ND.shape[1]))
    with path.open("r+b") as file:
        reserve(file.fileno(), path.stat().st_size, path.parent)
    for block in blocks(len(rows)):
        written[block] = vectors_ND[rows[block]]
    written.flush()
    return np.load(path, mmap_mode="r")


def build_flat(vectors_ND: np.ndarray, folder: Path, channel: Channel) -> ChannelRecord:
    """Write the exact index of float32 `[N, D]` and return its record."""
    path = folder / shard_file(channel)
    faiss.write_index(flat_index(vectors_ND), str(path))
    return ChannelRecord(kind=FLAT, exact=True, shards=(path.name,), memory_bytes=path.stat().st_size)


def build_approximate(
    kind: str, exact_ND: np.ndarray, folder: Path, channel: Channel, memory_bytes: float, recall: float, each: Each
) -> ChannelRecord:
    """Write the shards of an index of the vectors that are in the folder already.

    Args:
        exact_ND: float32, what is in the folder's `vectors_file`.
        memory_bytes: no shard takes more.

    Returns:
        The record of the index.

    Raises:
        UsageError: FAISS cannot make that kind of index of these vectors.
        StoreError: recall below the bound at any effort, or memory below what the smallest shard takes.
    """
    trained_index = train(kind, exact_ND)
    trained = folder / f"{channel}.trained"
    faiss.write_index(trained_index, str(trained))
    shards = n_shards(trained_index, exact_ND, memory_bytes)
    del trained_index
    pieces_of_shards = plan_pieces(trained, folder / vectors_file(channel), shards, folder)
    paths = [folder / shard_file(channel, i) for i in range(shards)]
    # With `map`, a shard's pieces are built when they are merged.
    made = iter(each(build_piece, [piece for of_shard in pieces_of_shards for piece in of_shard]))
    for of_shard, path in zip(pieces_of_shards, paths, strict=True):
        merge([next(made) for _ in of_shard], path)
    trained.unlink()
    try:
        tuned = tune(ApproximateIndex(_open_shards(paths), exact_ND, effort=1, oversampling=1), kind, recall)
    except StoreError as error:
        raise StoreError(f"channel {channel}: {error}") from error
    name = effort_name(tuned.index.shards[0])
    return ChannelRecord(
        kind=kind,
        exact=False,
        shards=tuple(path.name for path in paths),
        memory_bytes=sum(path.stat().st_size for path in paths),
        parameters={name: tuned.index.effort} if name else {},
        oversampling=tuned.index.oversampling,
        recall_at_100=tuned.recall,
        recall_bound=recall,
        recall_queries=tuned.n_queries,
    )


def read_channel(folder: Path, channel: Channel, record: ChannelRecord, rows: range | None = None) -> ChannelIndex:
    """Open what `build_flat` or `build_approximate` wrote; `record` is what they returned.

    Args:
        rows: that are searched, which the index counts from 0; None for all. They begin and end where the files of
            an approximate index do.
    """
    paths = [folder / name for name in record.shards]
    if record.exact:
        if rows is None:
            return FlatIndex(faiss.read_index(str(paths[0])))
        # Mapped, as not all of it fits.
        mapped = faiss.read_index(str(paths[0]), faiss.IO_FLAG_MMAP_IFC)
        return FlatIndex(flat_index(mapped.reconstruct_n(rows.start, len(rows))))
    exact_ND = np.load(folder / vectors_file(channel), mmap_mode="r")
    if rows is not None:
        edges = [len(exact_ND) * i // len(paths) for i in range(len(paths) + 1)]
        paths = paths[edges.index(rows.start) : edges.index(rows.stop)]
        exact_ND = exact_ND[rows.start : rows.stop]
    effort = next(iter(record.parameters.values()), 0)
    return ApproximateIndex(_open_shards(paths), exact_ND, effort, record.oversampling or 1)


def top_k(index: ChannelIndex, queries_QD: np.ndarray, k: int, withdrawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of each query by their exact scores, best first, equal ones by row.

    Args:
        queries_QD: float32 `[Q, D]`, contiguous.
        k: at most the rows that are not withdrawn.
        withdrawn: rows to leave out, int64, ascending.

    Returns:
        scores: float32 `[Q, k]`, added up in float64.
        rows: int64 `[Q, k]`.
    """
    scores, rows = np.empty((len(queries_QD), k), np.float32), np.empty((len(queries_QD), k), np.int64)
    for q, found in enumerate(nearest(index, queries_QD, k, withdrawn)):
        scores[q], rows[q] = found.similarity, found.rows
    return scores, rows


def nearest(index: ChannelIndex, queries_QD: np.ndarray, k: int, withdrawn: np.ndarray) -> Iterator[Found]:
    """Find what `top_k` finds, query by query, with the vectors of the songs found."""
    if k == 0:  # FAISS does not search for nothing.
        for _ in queries_QD:
            yield Found(np.empty(0, np.int64), np.empty(0), np.empty((0, index.dims)))
        return
    for query, candidates in zip(queries_QD, index.candidates(queries_QD, k, withdrawn), strict=True):
        yield _best(index, candidates, query.astype(np.float64), k)


def _best(index: ChannelIndex, rows: np.ndarray, query_D: np.ndarray, k: int) -> Found:
    """The k nearest of some rows, by exact scores."""
    if len(rows) > _SCORED_AT_ONCE:
        # An index of coarse codes proposes many for each that is wanted, and their vectors would take gigabytes.
        scored = [
            _similarity(index.vectors(rows[block]).astype(np.float64), query_D)
            for block in blocks(len(rows), _SCORED_AT_ONCE)
        ]
        rows = rows[np.lexsort((rows, -np.concatenate(scored)))[:k]]
    vectors = index.vectors(rows).astype(np.float64)
    similarity = _similarity(vectors, query_D)
    order = np.lexsort((rows, -similarity))[:k]
    return Found(rows[order], similarity[order], vectors[order])


def _similarity(vectors_kD: np.ndarray, query_D: np.ndarray) -> np.ndarray:
    # Row by row, so that a score does not depend on what else is scored with it.
    return np.einsum("kd,d->k", vectors_kD, query_D)


def _open_shards(paths: list[Path]) -> tuple[faiss.Index, ...]:
    # There are several because one would not fit: this host reads of each what a search asks for.
    flags = faiss.IO_FLAG_MMAP if len(paths) > 1 else 0
    return tuple(faiss.read_index(str(path), flags) for path in paths)
