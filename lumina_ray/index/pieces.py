"""Build an approximate index from pieces: train once, build pieces anywhere, then merge them in order.

Everything that is handed over is a path, so that processes on other machines that see the same files can build pieces.
One process and many give the same index, because the pieces are the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np

from lumina_ray.calibration.numerics import use_one_blas_thread
from lumina_ray.calibration.vectors import blocks
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.index.approximate import searched

# Vectors of one piece, and of the sample that is trained on. A process holds a small multiple of it at once.
_PIECE_BYTES = 1 << 30
_SAMPLE_BYTES = 2 << 30
# FAISS warns below 39 vectors for each cluster.
_SAMPLE_PER_LIST = 40
# Enough for the 256 clusters of each byte of a product quantiser, and for the bounds of a scalar quantiser.
_SAMPLE = 1 << 16
_SEED = 0


@dataclass(frozen=True)
class ShardPiece:
    """Some consecutive rows of a shard and where their index goes.

    Attributes:
        trained: an index file without vectors.
        vectors: an `.npy` file, float32 `[N, D]`.
    """

    trained: Path
    vectors: Path
    start: int
    stop: int
    out: Path


def new_index(kind: str, d: int) -> faiss.Index:
    """An untrained index of inner products.

    Raises:
        UsageError: FAISS knows no such kind for so many dimensions.
    """
    try:
        return faiss.index_factory(d, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UsageError(
            f"FAISS cannot make an index of kind {kind!r} for {d} dimensions ({_said(error)}); "
            "kinds are auto or factory strings such as IVF1024,SQ8"
        ) from error


def train(kind: str, vectors_ND: np.ndarray) -> faiss.Index:
    """Train the index without vectors that every piece starts from: coarse quantiser and codec, on a sample.

    Raises:
        UsageError: no such kind, or one that wants more vectors than there are.
    """
    use_one_blas_thread()
    n, d = vectors_ND.shape
    index = new_index(kind, d)
    inner = searched(index)
    if hasattr(inner, "do_polysemous_training"):
        # An hour for a thousand bytes a vector, and of use only to searches that filter by Hamming distance.
        inner.do_polysemous_training = False
    n_lists = inner.nlist if isinstance(inner, faiss.IndexIVF) else 0
    size = min(n, max(_SAMPLE_PER_LIST * n_lists, _SAMPLE), max(_SAMPLE_BYTES // (4 * d), n_lists))
    try:
        index.train(sample(vectors_ND, size, np.random.default_rng(_SEED)))
    except RuntimeError as error:
        raise UsageError(f"an index of kind {kind!r} cannot be trained on {n} vectors ({_said(error)})") from error
    return index


def n_shards(trained: faiss.Index, vectors_ND: np.ndarray, memory_bytes: float) -> int:
    """Number of shards such that none takes more than `memory_bytes`.

    Raises:
        StoreError: the trained parts alone take as much.
    """
    few = np.ascontiguousarray(vectors_ND[:1024])
    with_few = faiss.clone_index(trained)
    with_few.add(few)
    empty = faiss.serialize_index(trained).nbytes
    each = (faiss.serialize_index(with_few).nbytes - empty) / len(few)
    if empty + each > memory_bytes:
        raise StoreError(
            f"the index needs {empty / 2**30:.3g} GiB for what it was trained to know alone, and may take "
            f"{memory_bytes / 2**30:.3g} GiB: give it more --memory-gib, or a --kind with fewer lists"
        )
    return math.ceil(len(vectors_ND) * each / (memory_bytes - empty))


def plan_pieces(trained: Path, vectors: Path, shards: int, folder: Path) -> list[list[ShardPiece]]:
    """Cut each shard into pieces, in order; kinds that cannot be merged get one piece a shard."""
    n, d = np.load(vectors, mmap_mode="r").shape
    edges = [n * i // shards for i in range(shards + 1)]
    mergeable = isinstance(searched(faiss.read_index(str(trained))), faiss.IndexIVF)
    size = max(_PIECE_BYTES // (4 * d), 1) if mergeable else n
    return [
        [
            ShardPiece(trained, vectors, start + block.start, start + block.stop, folder / f"{shard}-{i}.piece")
            for i, block in enumerate(blocks(stop - start, size))
        ]
        for shard, (start, stop) in enumerate(pairwise(edges))
    ]


def build_piece(piece: ShardPiece) -> Path:
    """Build the index of a piece and return its path."""
    use_one_blas_thread()
    index = faiss.read_index(str(piece.trained))
    vectors_ND = np.load(piece.vectors, mmap_mode="r")[piece.start : piece.stop]
    for block in blocks(len(vectors_ND)):
        index.add(np.ascontiguousarray(vectors_ND[block]))
    faiss.write_index(index, str(piece.out))
    return piece.out


def merge(pieces: Sequence[Path], out: Path) -> None:
    """Merge the pieces of a shard, in order, and delete their files. Memory: the shard and one piece."""
    if len(pieces) == 1:
        pieces[0].rename(out)
        return
    whole = faiss.read_index(str(pieces[0]))
    for path in pieces[1:]:
        whole.merge_from(faiss.read_index(str(path)), whole.ntotal)
    faiss.write_index(whole, str(out))
    for path in pieces:
        path.unlink()


def sample(vectors_ND: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 `[size, D]`, rows drawn without repetition, in their order."""
    return np.ascontiguousarray(vectors_ND[np.sort(rng.choice(len(vectors_ND), size, replace=False))])


def _said(error: RuntimeError) -> str:
    """The message of a FAISS error, without the file and line of its source."""
    return str(error).rpartition("Error: ")[2].rpartition("failed: ")[2].strip()
