"""Measures how fast reports are added up to a statement, in how much memory, and how fast they could be at best.

    uv run --no-sync python -m benchmarks.statement

Reports are real ones of a synthetic catalog, of 20 listed songs in each channel, each written again under as many audio
hashes as are asked for. Time is that of a whole statement by owner with its table of evidence, from a folder of files.
The floor is the time that as many processes take to read the same files and parse their JSON, and do nothing else.
A processor second is one of any processor: on a machine that does other things, too, it says more than the time.
Memory is the most that this process held, and the most of one reading process. Writes results/statement.json.
"""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import from_json

from benchmarks.environment import describe_machine

RESULTS = Path(__file__).parent / "results"
_AUDIO = b"b" * 64


def write_reports(folder: Path, n: int) -> None:
    """Write `n` reports of different audio: those of a synthetic catalog, again and again."""
    # The tests' way to make reports; here, as the processes that read import this module too.
    making = import_module("tests.statement.making")
    audio = b'"audio_sha256":"%s"'
    made = [report.replace(audio % _AUDIO, audio % b"%s", 1) for report in making.real_reports(24)]
    for i in range(n):
        place = folder / f"{i // 1000:04d}"
        place.mkdir(exist_ok=True)
        (place / f"{i:07d}.json").write_bytes(made[i % len(made)].replace(b"%s", os.urandom(32).hex().encode(), 1))


def parse(paths: list[str]) -> int:
    """Read some files and parse their JSON."""
    return sum(len(from_json(Path(path).read_bytes())) > 0 for path in paths)


def floor_s(folder: Path, workers: int) -> tuple[float, float]:
    """Read and parse all files of a folder, in batches, and do nothing else.

    Returns:
        The seconds that it takes, and those of all processors together.
    """

    def in_batches() -> Iterator[list[str]]:
        for place in folder.iterdir():
            paths = [str(path) for path in place.iterdir()]
            for i in range(0, len(paths), 64):
                yield paths[i : i + 64]

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin_s = time.perf_counter()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        sum(pool.map(parse, in_batches()))
    took_s, after = time.perf_counter() - begin_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, workers: int) -> dict[str, float]:
    """Make a statement of a folder's reports in this process and those that it starts."""
    from lumina_ray.statement.files import make_files

    begin_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        made = make_files([str(folder)], Path(out), "owner", "2026-Q3", workers=workers)
    took_s = time.perf_counter() - begin_s
    own, of_readers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "reports": made.statement.reports.counted,
        "seconds": took_s,
        "processor_seconds": sum(use.ru_utime + use.ru_stime for use in (own, of_readers)),
        "peak_mib": own.ru_maxrss / 1024,
        "reader_peak_mib": of_readers.ru_maxrss / 1024,
    }


def main(
    reports: Annotated[list[int] | None, typer.Option(min=600, help="How many; may be given several times.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 2,
    place: Annotated[Path | None, typer.Option(help="Folder for temporary files: 60 kB a report.")] = None,
    only: Annotated[
        Path | None, typer.Option(hidden=True, help="Measure this folder's reports, and print JSON.")
    ] = None,
) -> None:
    """Measure on this machine, and print reports a second."""
    if only is not None:
        print(json.dumps(measure(only, workers)))
        return
    results = []
    for n in reports or [2000, 20_000]:
        with tempfile.TemporaryDirectory(dir=place) as name:
            folder = Path(name)
            write_reports(folder, n)
            n_bytes = sum(path.stat().st_size for path in folder.rglob("*.json"))
            # A process of its own, whose memory is that of nothing else.
            command = [sys.executable, "-m", "benchmarks.statement", "--only", str(folder), "--workers", str(workers)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            floor, floor_processor_s = floor_s(folder, workers)
        rate = found["reports"] / found["seconds"]
        results.append(found | {"bytes": n_bytes, "floor_seconds": floor, "floor_processor_seconds": floor_processor_s})
        print(
            f"{n} reports of {n_bytes / n / 1000:.0f} kB, {workers} readers: {rate:.0f} reports/s ({60 * rate:.0f} a "
            f"minute), {n / found['processor_seconds']:.0f} a processor second; parsing JSON alone {n / floor:.0f} "
            f"reports/s, {n / floor_processor_s:.0f} a processor second; peak {found['peak_mib']:.0f} MiB, of a reader "
            f"{found['reader_peak_mib']:.0f} MiB"
        )
    RESULTS.mkdir(exist_ok=True)
    summary = {"measured": results, "workers": workers, "environment": describe_machine()}
    (RESULTS / "statement.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
