"""Compares approximate indexes with plain exact FAISS search, on equal vectors in one run: time, memory and recall.

    make bench-search

Vectors are drawn from a mixture: a direction that all music has in common, genres, artists, and each song's own
direction. Dimensions have smaller and smaller variance. The gain of approximate search depends on this structure:
where songs have little in common, neighbours are anywhere, and nearly all of a catalog must be read to find them.
Queries come from the same mixture and are not in the catalog. Recall is the fraction of the 100 nearest songs that an
index finds, after its candidates are scored again exactly. Latencies include that, and are per query, alone or in
batches of 32. A ratio is the time of plain exact search (`IndexFlatIP`, all vectors in memory) over the index's, so
that larger is better. Memory is the index's size, and the most that the process held at once while building it. Files
that are mapped into memory do not count, because the system may drop them at any time. Writes results/search.json.
"""

import json
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from lumina_ray.calibration.vectors import blocks
from lumina_ray.index.channel import build_approximate, read_channel, top_k
from lumina_ray.index.exact import exact_nearest, flat_index
from lumina_ray.index.files import vectors_file
from lumina_ray.index.kinds import choose_kind, default_memory_bytes
from lumina_ray.index.recall import RECALL_K, recall_of

RESULTS = Path(__file__).parent / "results"
BATCH = 32
# Numbers of songs and of dimensions: `stats` has 216 under a model with 48 layers, `influence` has 4096.
SIZES: dict[tuple[int, int], tuple[str, ...]] = {
    (100_000, 216): ("IVF512,Flat", "IVF512,SQ8", "IVF512,PQ54", "HNSW32"),
    (1_000_000, 216): ("IVF2048,SQ8", "IVF2048,PQ54"),
    (100_000, 4096): ("auto",),
}
FULL_SIZES: dict[tuple[int, int], tuple[str, ...]] = {(10_000_000, 216): ("auto",), (1_000_000, 4096): ("auto",)}
SONGS_PER_ARTIST, N_GENRES = 20, 64
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True)
class Latency:
    """Milliseconds per query, for queries that come alone, and for queries in batches of 32."""

    single_p50_ms: float
    single_p99_ms: float
    batch_p50_ms: float
    batch_p99_ms: float


@dataclass(frozen=True)
class Measured:
    """One index of one catalog. Ratios are those of the median times."""

    kind: str
    parameters: dict[str, int]
    oversampling: int
    recall_at_100: float
    recall_at_build: float
    latency: Latency
    ratio_single: float
    ratio_batch: float
    build_s: float
    index_gib: float
    build_peak_gib: float


class Mixture:
    """A source of unit vectors that resemble each other as music does: one common direction, genres and artists.

    There are 64 genres, and one artist for 20 of the `n` songs. Vectors have `d` dimensions.
    """

    def __init__(self, n: int, d: int) -> None:
        rng = np.random.default_rng(d)
        self._scales = 1 / np.sqrt(1 + np.arange(d, dtype=np.float32))
        common, genres = self._directions(rng, 1), self._directions(rng, N_GENRES)
        artists = self._directions(rng, max(n // SONGS_PER_ARTIST, 1))
        self._artists = 0.35 * common + 0.5 * genres[np.arange(len(artists)) % N_GENRES] + 0.5 * artists

    def music(self, n: int, seed: int) -> np.ndarray:
        """Draw unit vectors of songs, float32 `[n, D]`."""
        rng = np.random.default_rng(seed)
        own = self._directions(rng, n)
        return _unit(self._artists[rng.integers(len(self._artists), size=n)] + 0.45 * own)

    def _directions(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return _unit(rng.standard_normal((n, len(self._scales)), np.float32) * self._scales)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def write_catalog(mixture: Mixture, n: int, d: int, path: Path) -> np.ndarray:
    """Write a catalog's vectors to an `.npy` file, block by block, and return them memory-mapped: float32 `[n, d]`."""
    written = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    for block in blocks(n):
        written[block] = mixture.music(block.stop - block.start, seed=block.start)
    written.flush()
    return np.load(path, mmap_mode="r")


def latency(search: Callable[[np.ndarray], object], queries_QD: np.ndarray) -> Latency:
    """Time a search for all queries, one by one and then in batches, after one query to warm up."""
    search(queries_QD[:1])
    times = []
    for size in (1, BATCH):
        of_size = []
        for i in range(0, len(queries_QD) - size + 1, size):
            begin_s = time.perf_counter()
            search(queries_QD[i : i + size])
            of_size.append(1000 * (time.perf_counter() - begin_s) / size)
        times.append(of_size)
    return Latency(*(float(np.percentile(of_size, p)) for of_size in times for p in (50, 99)))


@contextmanager
def peak_anonymous_gib() -> Iterator[list[float]]:
    """Measure the most memory that this process holds during the block, without mapped files.

    The yielded list is empty during the block, and then has one number, in GiB.
    """
    peak, done, found = [_anonymous_gib()], threading.Event(), list[float]()

    def watch() -> None:
        while not done.wait(0.05):
            peak.append(max(peak.pop(), _anonymous_gib()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found.append(max(peak[0], _anonymous_gib()))


def _anonymous_gib() -> float:
    """Memory of this process without mapped files, in GiB. Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20


def exact_search(vectors_ND: np.ndarray) -> tuple[str, Callable[[np.ndarray], object]]:
    """Plain exact search: its name, and a function that searches.

    Vectors that would fill this machine's memory are searched in their file, which is much slower.
    """
    if vectors_ND.nbytes <= default_memory_bytes():
        index = flat_index(vectors_ND)
        return "IndexFlatIP", lambda query_QD: index.search(query_QD, RECALL_K)
    return "faiss.knn on the mapped file", lambda query_QD: exact_nearest(vectors_ND, query_QD, RECALL_K, _NOTHING)


def measure(
    kind: str, vectors_ND: np.ndarray, folder: Path, queries_QD: np.ndarray, true_QK: np.ndarray, plain: Latency
) -> Measured:
    """Build one index and search it."""
    n, d = vectors_ND.shape
    memory_bytes = default_memory_bytes()
    kind = choose_kind(n, d, memory_bytes / 2) if kind == "auto" else kind
    begin_s = time.perf_counter()
    with peak_anonymous_gib() as peak_gib:
        facts = build_approximate(kind, vectors_ND, folder, "P", memory_bytes, recall=0.99, each=map)
    build_s = time.perf_counter() - begin_s
    index = read_channel(folder, "P", facts)
    _, rows_QK = top_k(index, queries_QD, RECALL_K, _NOTHING)
    times = latency(lambda query_QD: top_k(index, query_QD, RECALL_K, _NOTHING), queries_QD)
    return Measured(
        kind=kind,
        parameters=facts.parameters,
        oversampling=facts.oversampling or 1,
        recall_at_100=recall_of(rows_QK, true_QK),
        recall_at_build=facts.recall_at_100 or 0.0,
        latency=times,
        ratio_single=plain.single_p50_ms / times.single_p50_ms,
        ratio_batch=plain.batch_p50_ms / times.batch_p50_ms,
        build_s=build_s,
        index_gib=facts.memory_bytes / 2**30,
        build_peak_gib=peak_gib[0],
    )


def main(
    full: Annotated[bool, typer.Option(help="Also 10 million × 216 and 1 million × 4096: hours, and 26 GB.")] = False,
    size: Annotated[
        list[str] | None, typer.Option(help="Only this catalog, such as 100000x216; may be given several times.")
    ] = None,
    queries: Annotated[int, typer.Option(min=BATCH)] = 96,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files, such as the vectors.")] = None,
) -> None:
    """Measure on this machine and print ratios."""
    console = Console(width=120)
    known = SIZES | FULL_SIZES
    asked = [(int(n), int(d)) for n, d in (one.split("x") for one in size or ())]
    sizes = {one: known.get(one, ("auto",)) for one in asked} or (known if full else SIZES)
    results, fastest = {}, []
    for (n, d), kinds in sizes.items():
        mixture = Mixture(n, d)
        queries_QD = mixture.music(queries, seed=n)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            vectors_ND = write_catalog(mixture, n, d, Path(name) / vectors_file("P"))
            true_QK = exact_nearest(vectors_ND, queries_QD, RECALL_K, _NOTHING)
            exact, search = exact_search(vectors_ND)
            plain = latency(search, queries_QD if exact == "IndexFlatIP" else queries_QD[:BATCH])
            del search  # This frees the vectors in memory before an index is built.
            measured = []
            for kind in kinds:
                measured.append(measure(kind, vectors_ND, Path(name), queries_QD, true_QK, plain))
                console.print(f"{n} × {d}, {measured[-1].kind}: built in {measured[-1].build_s:.0f} s")
        table = Table(
            "", "recall@100", "p50 ms", "p99 ms", "ratio", "32: p50 ms", "ratio", "build s", "index GiB", "peak GiB",
            title=f"{n} × {d}, {vectors_ND.nbytes / 2**30:.2f} GiB of vectors",
        )  # fmt: skip
        table.add_row(
            exact, "1", f"{plain.single_p50_ms:.1f}", f"{plain.single_p99_ms:.1f}", "1", f"{plain.batch_p50_ms:.1f}",
            "1", "", f"{vectors_ND.nbytes / 2**30:.2f}", "",
        )  # fmt: skip
        for m in measured:
            table.add_row(
                m.kind, f"{m.recall_at_100:.4f}", f"{m.latency.single_p50_ms:.1f}", f"{m.latency.single_p99_ms:.1f}",
                f"{m.ratio_single:.1f}", f"{m.latency.batch_p50_ms:.1f}", f"{m.ratio_batch:.1f}", f"{m.build_s:.0f}",
                f"{m.index_gib:.2f}", f"{m.build_peak_gib:.2f}",
            )  # fmt: skip
        console.print(table)
        best = max(measured, key=lambda m: m.ratio_single)
        fastest.append(f"{n} × {d} {best.ratio_single:.1f} ({best.kind})")
        results[f"{n}x{d}"] = {
            "songs": n,
            "dims": d,
            "vectors_gib": vectors_ND.nbytes / 2**30,
            "exact": {"search": exact, "latency": asdict(plain)},
            "indexes": [asdict(m) for m in measured],
        }
    RESULTS.mkdir(exist_ok=True)
    summary = {
        "catalogs": results,
        "queries": queries,
        "environment": {
            "faiss": faiss.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
            "threads": faiss.omp_get_max_threads(),
        },
    }
    (RESULTS / "search.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(f"exact / fastest index, single queries: {', '.join(fastest)}")


if __name__ == "__main__":
    typer.run(main)
