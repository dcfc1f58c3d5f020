"""Times the engine's own cost per song: the real pipeline, around workers that take a fixed time and compute nothing.

    make bench-overhead

One Ray node is told that it has as many GPUs as there are workers. Songs come with codes, as from another store, so
that nothing is decoded. Rows are as large as a real job's, and are committed as a real job does it. A plain loop makes
equal rows for comparison: no Ray, one worker that is called batch by batch, and one Parquet file for each block. All
numbers describe the steady state, with every worker up: between a worker's first and last batch.
Writes results/overhead.json.
"""

import hashlib
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_machine
from benchmarks.fixed_time import FixedTimeWorker
from benchmarks.job import run_job
from benchmarks.processes import Sample, sampled
from cluster.metrics import Times
from cluster.resources import TASK_CPUS, Workers
from cluster.session import start_local
from lumina_ray.evidence.kept import evidence_version
from lumina_ray.evidence.vectors import DIMS
from lumina_ray.fingerprint import Specification
from lumina_ray.model import open_model
from lumina_ray.store import StoreCounter, store_schema
from lumina_ray.vocabulary import EVIDENCE_VERSION

RESULTS = Path(__file__).parent / "results"
CHUNKS_PER_SONG = 3
CHUNK_FRAMES = 500
CODEBOOKS = 4
# Sizes as on a GPU: songs in one call of the worker, and songs in one block.
CHUNKS_IN_FLIGHT = 8
SONGS_PER_BLOCK = 16
_START_S = 20.0
BAR_MS = 5.0
BAR_BUSY = 0.9


@dataclass(frozen=True)
class Measured:
    """Measurements with one number of workers.

    Attributes:
        workers: number of workers.
        songs: number of songs.
        songs_per_s: songs per second of all workers.
        engine_ms_per_song: how much more of a worker's time a song takes than in the plain loop.
        busy_fraction: fraction of the workers' time that the songs' fixed time fills.
        processor_ms_per_song: processor time by role of the process. The workers' time includes making rows.
        start_s: time until all workers were up and the first row was committed, with the start of processes.
        tail_s: time from the first worker without more work until the last.
    """

    workers: int
    songs: int
    songs_per_s: float
    engine_ms_per_song: float
    busy_fraction: float
    processor_ms_per_song: dict[str, float]
    start_s: float
    tail_s: float


def songs_with_codes(n: int) -> pa.Table:
    """Make rows of a manifest, with random codes and shared evidence."""
    rng = np.random.default_rng(0)
    frames = [CHUNK_FRAMES] * CHUNKS_PER_SONG
    # Codes below 512 use 9 of their 16 bits, so that files compress as with a real model's codes.
    codes = [rng.integers(0, 512, CODEBOOKS * sum(frames), np.uint16).tobytes() for _ in range(64)]
    evidence = {
        name: [rng.normal(size=dims * CHUNKS_PER_SONG).astype("<f2").tobytes() for _ in range(64)]
        for name, dims in DIMS.items()
    }
    return pa.table(
        {
            "song_id": [f"song {i:08}" for i in range(n)],
            "path": [f"/music/{i:08}.flac" for i in range(n)],
            "title": [f"Title of song {i}" for i in range(n)],
            "audio_sha256": [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)],
            "duration_s": [10.0 * CHUNKS_PER_SONG] * n,
            "codes": [codes[i % len(codes)] for i in range(n)],
            "chunk_frames": pa.array([frames] * n, pa.list_(pa.int32())),
            "chunk_starts_s": [[10.0 * c for c in range(CHUNKS_PER_SONG)]] * n,
            EVIDENCE_VERSION: [evidence_version()] * n,
            "error_code": pa.nulls(n, pa.string()),
            "error": pa.nulls(n, pa.string()),
        }
        | {name: [vectors[i % 64] for i in range(n)] for name, vectors in evidence.items()}
    )


def plain_ms_per_song(songs: pa.Table, worker: FixedTimeWorker, folder: Path) -> float:
    """Milliseconds per song of equal work without an engine, one song after the other."""
    begin_s = time.monotonic()
    for block in range(0, len(songs), SONGS_PER_BLOCK):
        batches = [
            worker(songs.slice(first, min(CHUNKS_IN_FLIGHT, block + SONGS_PER_BLOCK - first)))
            for first in range(block, min(block + SONGS_PER_BLOCK, len(songs)), CHUNKS_IN_FLIGHT)
        ]
        pq.write_table(pa.concat_tables(batches), folder / f"{block:08}.parquet")
    return 1000 * (time.monotonic() - begin_s) / len(songs)


@ray.remote(num_cpus=TASK_CPUS)
def _start_process() -> None:
    """Import the modules that tasks need, and wait until as many processes have started as can run at once."""
    import ray.data  # noqa: F401

    time.sleep(_START_S)


def measure(n_workers: int, songs: pa.Table, specification: Specification, song_s: float, plain_ms: float) -> Measured:
    """Run the pipeline on a new Ray with as many simulated GPUs as workers."""
    start_local(num_gpus=n_workers)
    # Processes that start take processor time from those that are measured. So all of them are started before.
    ray.get([_start_process.remote() for _ in range(round(ray.cluster_resources()["CPU"] / TASK_CPUS))])
    ray.data.DataContext.get_current().wait_for_min_actors_s = 1800
    try:
        with tempfile.TemporaryDirectory() as folder, sampled() as samples:
            begin_s = time.time()
            store = Path(folder) / "store"
            times = _run(store, songs, n_workers, specification, song_s)
            commits = [(file.committed_s, file.tally.songs) for file in StoreCounter(store).data_files()]
    finally:
        ray.shutdown()
    return Measured(
        workers=n_workers,
        songs=len(songs),
        songs_per_s=times.songs_per_s,
        engine_ms_per_song=1000 * n_workers / times.songs_per_s - plain_ms,
        busy_fraction=times.songs_per_s * song_s / n_workers,
        processor_ms_per_song=_processor_ms(samples, commits, times),
        start_s=min(at_s for at_s, _ in commits) - begin_s,
        tail_s=times.tail_s,
    )


def _run(store: Path, songs: pa.Table, n_workers: int, specification: Specification, song_s: float) -> Times:
    workers = Workers("cuda", n_workers, cpus=0, gpus=1, decoders=1)
    make = partial(FixedTimeWorker, schema=store_schema(specification), song_s=song_s)
    return run_job(store, songs, "fixed time", specification, workers, CHUNKS_IN_FLIGHT, make)


def _processor_ms(samples: list[Sample], commits: list[tuple[float, int]], times: Times) -> dict[str, float]:
    """Processor time per song, by role, between the first commit and the end of the first worker's last batch."""
    begin_s, end_s = min(commits)[0], min(worker.ended_s for worker in times.workers)
    steady = [sample for sample in samples if begin_s <= sample.at_s <= end_s]
    first, last = steady[0], steady[-1]
    songs = sum(n for at_s, n in commits if first.at_s < at_s <= last.at_s)
    return {
        role: 1000 * (used_s - first.processor_s[role]) / songs for role, used_s in sorted(last.processor_s.items())
    }


def main(
    workers: Annotated[str, typer.Option(help="Numbers of workers, with commas.")] = "1,4,16,64",
    song_ms: Annotated[float, typer.Option(help="Milliseconds that a worker takes for a song.")] = 100.0,
    seconds: Annotated[float, typer.Option(help="How long the songs of a run would keep the workers busy.")] = 20.0,
) -> None:
    """Measure on this machine."""
    console = Console()
    machine = describe_machine()
    specification = Specification.for_model(open_model("nano"), "influence")
    song_s = song_ms / 1000
    worker = FixedTimeWorker(schema=store_schema(specification), song_s=song_s)
    with tempfile.TemporaryDirectory() as folder:
        plain_ms = plain_ms_per_song(songs_with_codes(round(seconds / song_s)), worker, Path(folder))
    console.print(f"plain loop: {plain_ms:.2f} ms a song")
    measured = []
    for n in map(int, workers.split(",")):
        measured.append(measure(n, songs_with_codes(round(n * seconds / song_s)), specification, song_s, plain_ms))
        console.print_json(json.dumps(asdict(measured[-1])))
    table = Table("workers", "songs/s", "engine ms/song", "busy", "processor ms/song", "start s", "tail s")
    for m in measured:
        table.add_row(
            str(m.workers), f"{m.songs_per_s:.1f}", f"{m.engine_ms_per_song:.2f}", f"{m.busy_fraction:.1%}",
            f"{sum(m.processor_ms_per_song.values()):.2f}", f"{m.start_s:.0f}", f"{m.tail_s:.1f}",
        )  # fmt: skip
    console.print(table)
    met = all(m.engine_ms_per_song <= BAR_MS and m.busy_fraction >= BAR_BUSY for m in measured)
    console.print(f"bars: ≤ {BAR_MS:g} ms of engine a song, ≥ {BAR_BUSY:.0%} busy: {'met' if met else 'missed'}")
    RESULTS.mkdir(exist_ok=True)
    summary = {
        "engine_ms_per_song": {str(m.workers): m.engine_ms_per_song for m in measured},
        "busy_fraction": {str(m.workers): m.busy_fraction for m in measured},
        "plain_ms_per_song": plain_ms,
        "song_ms": song_ms,
        "runs": [asdict(m) for m in measured],
        "simulated_gpus": True,
        "machine": machine,
    }
    (RESULTS / "overhead.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
