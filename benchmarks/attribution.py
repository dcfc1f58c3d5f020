"""Time an answer to a fingerprinted query: search, regression, confidence, shares, and their report.

    make bench-attribution

Both channels, 256 songs judged in each and the best 20 listed, one query at a time in one process, as an endpoint's
searcher does it. Vectors are those of `benchmarks.search`; both channels search one index, each with vectors of its
own. A query is three chunks, in all of which is one song. Recall is the share of the 100 nearest songs that an answer
finds. The parts are timed by themselves: `search` is both channels' nearest songs with their vectors, `regression` the
256 kernel scores of both, `numbers` these two with p-values, shares and their intervals, which an answer then lays out
as a report, and `json` the canonical JSON, which is not part of the answer's time. Writes results/attribution.json.
"""

import gc
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_machine
from benchmarks.search import Mixture, write_catalog
from lumina_ray.attribution import POLICIES, SongFacts, attribute, attribute_all, kernel_scores
from lumina_ray.attribution.evidence import query_levels, retrieve
from lumina_ray.attribution.intervals import share_intervals
from lumina_ray.calibration import Calibration, Reference, calibrate, catalog_centre
from lumina_ray.index import Snapshot, SnapshotRecord
from lumina_ray.index.channel import build_approximate, build_flat, read_channel
from lumina_ray.index.equal_songs import EqualSongs
from lumina_ray.index.exact import exact_nearest
from lumina_ray.index.files import FORMAT_VERSION, vectors_file
from lumina_ray.index.kinds import FLAT, choose_kind, default_memory_bytes
from lumina_ray.index.recall import RECALL_K, recall_of
from lumina_ray.index.withdrawn import Withdrawals
from lumina_ray.report import to_json
from lumina_ray.vocabulary import DEFAULT_POLICY, DEFAULT_TOP_K, ChannelQuery, QueryFingerprint

RESULTS = Path(__file__).parent / "results"
# Numbers of songs, and of dimensions: 216 as `stats` has at 48 layers, 4096 as `influence` has.
SIZES = ((99, 216), (99, 4096), (100_000, 4096), (1_000_000, 216))
FULL_SIZES = ((1_000_000, 4096),)
BATCH, N_CONTROLS, N_CHUNKS = 16, 50, 3
_SPECIFICATION_SHA256 = "a" * 64
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True)
class Measured:
    """Measurements of one catalog; times are in milliseconds per query.

    Attributes:
        batch_p50_ms: time of a batch of 16 queries, divided by 16.
        batch_ratio: time of 16 queries one by one, over the time of one batch of 16.
    """

    songs: int
    dims: int
    kind: str
    recall_at_100: float
    qualified: float
    p50_ms: float
    p99_ms: float
    batch_p50_ms: float
    batch_ratio: float
    search_ms: float
    regression_ms: float
    numbers_ms: float
    json_ms: float
    json_kb: float


def make_snapshot(folder: Path, n: int, d: int) -> tuple[Snapshot, np.ndarray]:
    """Make a calibrated snapshot of random vectors; returns it and the vectors, memory-mapped."""
    mixture = Mixture(n, d)
    vectors_ND = write_catalog(mixture, n, d, folder / vectors_file("P"))
    memory_bytes = default_memory_bytes()
    kind = choose_kind(n, d, memory_bytes / 2)
    if kind == FLAT:
        facts = build_flat(vectors_ND, folder, "P")
    else:
        facts = build_approximate(kind, vectors_ND, folder, "P", memory_bytes, recall=0.99, each=map)
    index = read_channel(folder, "P", facts)
    centre_D = catalog_centre(vectors_ND)
    controls_CD = mixture.music(N_CONTROLS, seed=n + 1)
    noise = calibrate({"P": vectors_ND, "M": vectors_ND}, {"P": controls_CD, "M": controls_CD})
    references = {
        c: Reference(vectors_ND[noise.reference_rows].astype(np.float64), songs.take(noise.reference_rows))
        for c, songs in noise.songs.items()
    }
    ids = pa.array([f"song-{i:07d}" for i in range(n)])
    songs = pa.table(
        {name: pa.array([30.0] * n) if name == "duration_s" else ids for name in SongFacts.model_fields},
    )
    withdrawals, no_songs = Withdrawals(folder, songs, None), songs.slice(0, 0)
    return (
        Snapshot(
            version="v0001",
            record=SnapshotRecord(
                format_version=FORMAT_VERSION,
                key="",
                model="",
                specification={},
                specification_sha256=_SPECIFICATION_SHA256,
                data_sha256="",
                generation=None,
                catalog=None,
                calibration_sha256="",
                n_songs=n,
                n_excluded=0,
                excluded={},
                dims={"P": d, "M": d},
                indexes={"P": facts, "M": facts},
                files={},
                software={"faiss": faiss.__version__},
                created="",
            ),
            songs=songs,
            calibration=Calibration(
                specification_sha256=_SPECIFICATION_SHA256,
                catalog_sha256="",
                controls_sha256="",
                duplicate_controls=0,
                closest={},
                channels=dict(noise.channels),
                gates=noise.gates,
                kinds=noise.kinds,
                unlike=dict(noise.unlike),
                reliability={},
                song_noise_sha256="",
            ),
            noise=noise.songs,
            centres={"P": centre_D, "M": centre_D},
            references=references,
            indexes={"P": index, "M": index},
            withdrawals=withdrawals,
            equal_songs=EqualSongs(no_songs, withdrawals.of(no_songs)),
        ),
        vectors_ND,
    )


def make_queries(vectors_ND: np.ndarray, n: int) -> list[QueryFingerprint]:
    """Make queries of three chunks. Each chunk is half a song, which differs between channels, and half other music."""
    mixture, rng = Mixture(*vectors_ND.shape), np.random.default_rng(1)
    return [
        QueryFingerprint(
            audio_sha256=f"{i:064x}",
            codes_sha256=f"{i:064x}",
            duration_s=10.0 * N_CHUNKS,
            specification_sha256=_SPECIFICATION_SHA256,
            weights_sha256="b" * 64,
            channels={
                "P": _channel_query(vectors_ND[rng.integers(len(vectors_ND))], mixture, 2 * i),
                "M": _channel_query(vectors_ND[rng.integers(len(vectors_ND))], mixture, 2 * i + 1),
            },
            chunk_starts_s=tuple(10.0 * chunk for chunk in range(N_CHUNKS)),
            chunk_durations_s=(10.0,) * N_CHUNKS,
            chunk_weights=(1 / N_CHUNKS,) * N_CHUNKS,
            environment={},
        )
        for i in range(n)
    ]


def _channel_query(song_D: np.ndarray, mixture: Mixture, seed: int) -> ChannelQuery:
    chunks_nD = _unit(song_D + mixture.music(N_CHUNKS, seed=len(song_D) + seed))
    return ChannelQuery(_unit(chunks_nD.sum(axis=0)), chunks_nD)


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def times_ms(function: Callable[[Any], object], arguments: list) -> np.ndarray:
    """Milliseconds of each call, after one call to warm up."""
    function(arguments[0])
    times = []
    for argument in arguments:
        begin_s = time.perf_counter()
        function(argument)
        times.append(1000 * (time.perf_counter() - begin_s))
    return np.array(times)


def measure(n: int, d: int, n_queries: int, folder: Path) -> Measured:
    """Build a catalog and answer queries about it."""
    snapshot, vectors_ND = make_snapshot(folder, n, d)
    queries = make_queries(vectors_ND, n_queries)
    asked_QD = np.stack([query.channels["P"].vector for query in queries])
    k = min(RECALL_K, n)
    true_QK = exact_nearest(vectors_ND, asked_QD, k, _NOTHING)
    # This also loads the pages of the mapped vectors that the answers need.
    reports = [attribute(query, snapshot) for query in queries]
    # The searcher does so too.
    gc.freeze()
    found_QK = np.stack([found.rows[:k] for found in snapshot.nearest("P", asked_QD, DEFAULT_TOP_K)])

    def search(query: QueryFingerprint) -> list:
        return [next(snapshot.nearest(c, query.channels[c].vector[None], DEFAULT_TOP_K)) for c in snapshot.indexes]

    def regression(searched: tuple[QueryFingerprint, list]) -> None:
        for query, found in zip(searched[0].channels.values(), searched[1], strict=True):
            kernel_scores(found.vectors, query.vector)

    def numbers(query: QueryFingerprint) -> None:
        levels = query_levels(query, snapshot)
        for c, asked in query.channels.items():
            found = snapshot.nearest(c, asked.vector[None], DEFAULT_TOP_K)
            evidence = retrieve(c, query, found, snapshot, levels).evidence
            evidence.gate.p_value(evidence.score), evidence.family_wise_p
            share_intervals(evidence, POLICIES[DEFAULT_POLICY].judge(evidence))

    single = times_ms(lambda query: attribute(query, snapshot), queries)
    batches = [queries[i : i + BATCH] for i in range(0, n_queries - BATCH + 1, BATCH)]
    batched = times_ms(lambda batch: attribute_all(batch, snapshot), batches) / BATCH
    return Measured(
        songs=n,
        dims=d,
        kind=snapshot.record.indexes["P"].kind,
        recall_at_100=recall_of(found_QK, true_QK),
        qualified=float(np.mean([c.qualified for report in reports for c in report.near_copies.values()])),
        p50_ms=float(np.percentile(single, 50)),
        p99_ms=float(np.percentile(single, 99)),
        batch_p50_ms=float(np.median(batched)),
        batch_ratio=float(np.median(single) / np.median(batched)),
        search_ms=float(np.median(times_ms(search, queries))),
        regression_ms=float(np.median(times_ms(regression, [(q, search(q)) for q in queries[:BATCH]]))),
        numbers_ms=float(np.median(times_ms(numbers, queries))),
        json_ms=float(np.median(times_ms(to_json, reports))),
        json_kb=float(np.median([len(to_json(report).encode()) for report in reports])) / 1000,
    )


def main(
    full: Annotated[
        bool, typer.Option(help="Also 1 million × 4096: half an hour, 25 GB of disk, 12 GB of memory.")
    ] = False,
    size: Annotated[
        list[str] | None, typer.Option(help="Only this catalog, such as 100000x216; may be given several times.")
    ] = None,
    queries: Annotated[int, typer.Option(min=BATCH)] = 192,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files, such as the vectors.")] = None,
) -> None:
    """Measure on this machine and print milliseconds."""
    console, machine = Console(width=120), describe_machine()
    asked = [(int(n), int(d)) for n, d in (one.split("x") for one in size or ())]
    table = Table(
        "", "kind", "recall@100", "qualified", "p50 ms", "p99 ms", "16: ms", "ratio", "search", "regression", "numbers",
        "JSON", "kB",
        title=f"Both channels, {DEFAULT_TOP_K} songs judged in each, {queries} queries",
    )  # fmt: skip
    results = []
    for n, d in asked or (SIZES + FULL_SIZES if full else SIZES):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            m = measure(n, d, queries, Path(name))
        results.append(asdict(m))
        table.add_row(
            f"{n} × {d}", m.kind, f"{m.recall_at_100:.4f}", f"{m.qualified:.1f}", f"{m.p50_ms:.2f}", f"{m.p99_ms:.2f}",
            f"{m.batch_p50_ms:.2f}", f"{m.batch_ratio:.2f}", f"{m.search_ms:.2f}", f"{m.regression_ms:.2f}",
            f"{m.numbers_ms:.2f}", f"{m.json_ms:.2f}", f"{m.json_kb:.0f}",
        )  # fmt: skip
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    summary = {"catalogs": results, "queries": queries, "environment": machine}
    (RESULTS / "attribution.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
