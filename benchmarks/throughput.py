"""Songs a second by number of GPUs, through the pipeline of a job.

    uv run --no-sync python -m benchmarks.throughput --gpus 1,2,4,8 --mode strong --repeats 3

Strong: the same songs on more GPUs; weak: as many songs for each GPU. Songs are files of noise. For each number of
GPUs a Ray is started on this machine that hands out so many. Where there are no GPUs it only believes so, and workers
compute on the processors that they share: such runs say nothing of scaling, are labelled as simulated and not plotted.

Two ceilings say why a curve is flat. Decode-only: the same songs with workers that take no time. GPU-only: the same
songs with their codes, so that nothing is decoded or encoded. Writes results/throughput.json, and throughput.png.
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
from cluster.fingerprint import absolute_model, read_songs
from cluster.preflight import Workers, describe_model, plan_workers
from cluster.session import start_local
from lumina_ray.fingerprint import CHANNELS, Kind, Specification
from lumina_ray.store import StoreCounter, store_schema

RESULTS = Path(__file__).parent / "results"

Mode = Literal["strong", "weak"]


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        elapsed_s: from before Ray is started until the store is complete.
        steady_songs_per_s: without start and tail.
        wait_fraction: of the workers' time between their first and last batches.
        load_s: the slowest worker's model. first_row_s: from the pipeline's start until the first commit.
        tail_s: from the first worker that has nothing more to do until the last.
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
    """Medians of the runs on one number of GPUs, against one GPU; efficiencies are 1 where scaling is ideal."""

    gpus: int
    songs_per_s: float
    audio_s_per_s: float
    steady_songs_per_s: float
    speed_up: float
    efficiency: float
    steady_speed_up: float
    steady_efficiency: float


def scaling(mode: Mode, runs: Sequence[Measured]) -> list[Scaling]:
    """How rates grow with GPUs: strong `X(n) / (n X(1))`; weak `T(1) / T(n)`, T for the songs of one GPU.

    In the steady state, weak efficiency is that of rates too: its time for a GPU's songs is `songs / X`.
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
    """What all runs share."""

    model: str
    kind: Kind
    simulated: bool

    def workers(self, gpus: int) -> tuple[Workers, Specification, int]:
        """On the Ray that is connected to."""
        workers = plan_workers("cuda", gpus)
        if self.simulated:
            workers = Workers("cpu", gpus, cpus=0, gpus=1, decoders=workers.decoders)
        specification, environment = describe_model(self.model, workers, self.kind, CHANNELS, "float32")
        return workers, specification, int(environment["chunks_in_flight"])

    def measure(self, gpus: int, songs: pa.Table, store: Path, *, decode_only: bool = False) -> Measured:
        """One run on a Ray of its own."""
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
        parts = StoreCounter(store).parts()
        return Measured(
            gpus=gpus,
            songs=len(songs),
            audio_s=sum(part.tally.audio_s for part in parts),
            elapsed_s=elapsed_s,
            steady_songs_per_s=times.songs_per_s,
            wait_fraction=times.wait_fraction,
            load_s=times.load_s,
            first_row_s=min(part.committed_s for part in parts) - filling_s,
            tail_s=times.tail_s,
            object_store_peak_bytes=held.peak_bytes,
            spilled_bytes=held.spilled_bytes,
        )


def plot(found: Sequence[Scaling], path: Path) -> None:
    """Rates by number of GPUs, with the line of ideal scaling."""
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
    mode: Annotated[Mode, typer.Option(help="strong: the same songs; weak: as many for each GPU.")] = "strong",
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    songs: Annotated[int, typer.Option(min=1, help="Of all GPUs, or, for weak, of each.")] = 512,
    model: Annotated[str, typer.Option(help="As of `lumina fingerprint`.")] = "nano",
    fingerprint: Annotated[Kind, typer.Option(help="As of `lumina fingerprint`.")] = "influence",
    longest_s: Annotated[float, typer.Option(min=2.0, help="Of the songs; the shortest are a quarter of it.")] = 240.0,
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
