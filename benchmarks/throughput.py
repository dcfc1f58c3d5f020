"""Measures songs per second by number of GPUs, through the pipeline of a job.

    uv run --no-sync python -m benchmarks.throughput --gpus 1,2,4,8 --mode strong --repeats 3

In strong scaling, all numbers of GPUs get equal songs. In weak scaling, the number of songs grows with the GPUs. Songs
are files of noise. For each number of GPUs, a Ray is started on this machine that has this number. Where the machine
has too few GPUs, Ray is only told so, and workers compute on common processors. Such runs do not measure scaling; they
are labelled as simulated, and are not plotted.

Two upper limits explain a flat curve. Decode-only: workers take no time. GPU-only: songs come with their codes, so that
nothing is decoded or encoded. Writes results/throughput.json and throughput.png.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import ray
import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_machine
from benchmarks.fixed_time import FixedTimeWorker
from benchmarks.job import run_job
from benchmarks.object_store import watched
from benchmarks.songs import write_songs
from cluster.inputs import read_songs
from cluster.preflight import describe_model
from cluster.resources import Workers, choose_workers
from cluster.session import start_local
from lumina_ray.fingerprint import Specification
from lumina_ray.model.files import absolute_model
from lumina_ray.store import StoreCounter, store_schema
from lumina_ray.vocabulary import CHANNELS, Kind

RESULTS = Path(__file__).parent / "results"

Mode = Literal["strong", "weak"]


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        gpus: number of GPUs.
        songs: number of songs.
        audio_s: length of all songs, in seconds.
        elapsed_s: time from before Ray is started until the store is complete.
        steady_songs_per_s: songs per second, without start and tail.
        wait_fraction: fraction of time that workers wait between their first and last batches.
        load_s: time in which the slowest worker loads its model.
        first_row_s: time from the pipeline's start until the first commit.
        tail_s: time from the first worker without more work until the last.
        object_store_peak_bytes: most bytes that Ray's object store held at once.
        spilled_bytes: bytes that the object store wrote to disks.
    """

    gpus: int
    songs: int
    audio_s: float
    elapsed_s: float
    steady_songs_per_s: float
    wait_fraction: float | None
    load_s: float
    first_row_s: float
    tail_s: float
    object_store_peak_bytes: int
    spilled_bytes: int


@dataclass(frozen=True)
class Scaling:
    """Medians of the runs with one number of GPUs, compared with one GPU. Efficiencies are 1 where scaling is ideal."""

    gpus: int
    songs_per_s: float
    audio_s_per_s: float
    steady_songs_per_s: float
    speed_up: float
    efficiency: float
    steady_speed_up: float
    steady_efficiency: float


def scaling(mode: Mode, runs: Sequence[Measured]) -> list[Scaling]:
    """Compute how rates grow with the number of GPUs.

    For n GPUs, efficiency is `X(n) / (n X(1))` in strong scaling, where X is songs per second. In weak scaling it is
    `T(1) / T(n)`, where T is the run's time. In the steady state both are one number, because there `T = songs / X`.
    """
    by_gpus = {n: [run for run in runs if run.gpus == n] for n in sorted({run.gpus for run in runs})}

    def median(n: int, of_run: str) -> float:
        return statistics.median(getattr(run, of_run) for run in by_gpus[n])

    found = []
    for n, of_n in by_gpus.items():
        elapsed_s, elapsed_1_s = median(n, "elapsed_s"), median(1, "elapsed_s")
        rate, rate_1 = of_n[0].songs / elapsed_s, by_gpus[1][0].songs / elapsed_1_s
        steady_speed_up = median(n, "steady_songs_per_s") / median(1, "steady_songs_per_s")
        found.append(
            Scaling(
                gpus=n,
                songs_per_s=rate,
                audio_s_per_s=of_n[0].audio_s / elapsed_s,
                steady_songs_per_s=median(n, "steady_songs_per_s"),
                speed_up=rate / rate_1,
                efficiency=elapsed_1_s / elapsed_s if mode == "weak" else rate / (n * rate_1),
                steady_speed_up=steady_speed_up,
                steady_efficiency=steady_speed_up / n,
            )
        )
    return found


@dataclass(frozen=True)
class Setup:
    """Settings that all runs have in common."""

    model: str
    kind: Kind
    simulated: bool

    def workers(self, gpus: int) -> tuple[Workers, Specification, int]:
        """Plan the workers on the connected Ray; returns them, the specification and the chunks in flight."""
        workers = choose_workers("cuda", gpus)
        if self.simulated:
            workers = Workers("cpu", gpus, cpus=0, gpus=1, decoders=workers.decoders)
        specification, environment = describe_model(self.model, workers, self.kind, CHANNELS, "float32")
        return workers, specification, int(environment["chunks_in_flight"])

    def measure(self, gpus: int, songs: pa.Table, store: Path, *, decode_only: bool = False) -> Measured:
        """Measure one run on a new Ray."""
        begin_s = time.monotonic()
        start_local(num_gpus=gpus)
        try:
            with watched() as held:
                workers, specification, chunks_in_flight = self.workers(gpus)
                make = partial(FixedTimeWorker, schema=store_schema(specification), song_s=0.0) if decode_only else None
                filling_s = time.time()
                times = run_job(store, songs, self.model, specification, workers, chunks_in_flight, make)
        finally:
            ray.shutdown()
        elapsed_s = time.monotonic() - begin_s
        files = StoreCounter(store).data_files()
        return Measured(
            gpus=gpus,
            songs=len(songs),
            audio_s=sum(file.tally.audio_s for file in files),
            elapsed_s=elapsed_s,
            steady_songs_per_s=times.songs_per_s,
            wait_fraction=times.wait_fraction,
            load_s=times.load_s,
            first_row_s=min(file.committed_s for file in files) - filling_s,
            tail_s=times.tail_s,
            object_store_peak_bytes=held.peak_bytes,
            spilled_bytes=held.spilled_bytes,
        )


def plot(found: Sequence[Scaling], path: Path) -> None:
    """Plot rates by number of GPUs, with the line of ideal scaling."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    gpus = [s.gpus for s in found]
    axes.plot(gpus, [n * found[0].steady_songs_per_s for n in gpus], "k--", label="ideal")
    axes.plot(gpus, [s.steady_songs_per_s for s in found], "o-", label="steady state")
    axes.plot(gpus, [s.songs_per_s for s in found], "s-", label="end to end")
    axes.set(xlabel="GPUs", ylabel="songs / s", xticks=gpus)
    axes.legend()
    figure.savefig(path, dpi=150)


def main(
    gpus: Annotated[str, typer.Option(help="Numbers of GPUs, with commas; 1 must be among them.")] = "1,2,4,8",
    mode: Annotated[
        Mode, typer.Option(help="strong: equal songs for all numbers of GPUs; weak: more songs for more GPUs.")
    ] = "strong",
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    songs: Annotated[int, typer.Option(min=1, help="Number of songs: in all (strong) or per GPU (weak).")] = 512,
    model: Annotated[str, typer.Option(help="Model, as in `lumina fingerprint`.")] = "nano",
    fingerprint: Annotated[Kind, typer.Option(help="Kind of fingerprint, as in `lumina fingerprint`.")] = "influence",
    longest_s: Annotated[
        float, typer.Option(min=2.0, help="Seconds of the longest song; the shortest has a quarter.")
    ] = 240.0,
) -> None:
    """Measure on this machine."""
    counts = sorted({int(n) for n in gpus.split(",")})
    if counts[0] != 1:
        raise typer.BadParameter(f"1 must be among the numbers of GPUs, as what others are compared with; got {gpus}")
    simulated = torch.cuda.device_count() < counts[-1]
    console, machine = Console(), describe_machine()
    setup = Setup(absolute_model(model), fingerprint, simulated)
    runs, decode_only, gpu_only = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in counts:
            manifest = read_songs(write_songs(folder, songs * n if mode == "weak" else songs, longest_s / 4, longest_s))
            for i in range(repeats):
                runs.append(setup.measure(n, manifest, folder / f"{n} {i}"))
            gpu_only.append(setup.measure(n, read_songs(folder / f"{n} 0"), folder / f"{n} codes"))
            decode_only.append(setup.measure(n, manifest, folder / f"{n} decoded", decode_only=True))
    found = scaling(mode, runs)
    title = f"{mode} scaling" + (", SIMULATED GPUs: no measure of scaling" if simulated else "")
    table = Table(
        "GPUs", "songs/s", "audio s/s", "of each", "speed-up", "efficiency", "steady songs/s", "efficiency",
        "decode-only", "GPU-only", title=title,
    )  # fmt: skip
    for s, of_decoding, of_gpus in zip(found, decode_only, gpu_only, strict=True):
        table.add_row(
            str(s.gpus), f"{s.songs_per_s:.2f}", f"{s.audio_s_per_s:.1f}", f"{s.audio_s_per_s / s.gpus:.1f}",
            f"{s.speed_up:.2f}", f"{s.efficiency:.0%}", f"{s.steady_songs_per_s:.2f}", f"{s.steady_efficiency:.0%}",
            f"{of_decoding.steady_songs_per_s:.2f}", f"{of_gpus.steady_songs_per_s:.2f}",
        )  # fmt: skip
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    results = {
        "mode": mode,
        "simulated_gpus": simulated,
        "scaling": [asdict(s) for s in found],
        "runs": [asdict(run) for run in runs],
        "decode_only": [asdict(run) for run in decode_only],
        "gpu_only": [asdict(run) for run in gpu_only],
        "model": model,
        "fingerprint": fingerprint,
        "machine": machine,
    }
    (RESULTS / "throughput.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if not simulated:
        plot(found, RESULTS / "throughput.png")


if __name__ == "__main__":
    typer.run(main)
