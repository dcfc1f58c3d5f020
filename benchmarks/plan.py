"""Compares `lumina plan` with the job itself, on a small catalog of noise, and prints ratios.

    uv run --no-sync python -m benchmarks.plan

The plan and the job start a Ray of their own, as the commands do. Writes results/plan.json.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_machine
from benchmarks.songs import write_songs
from cluster.fingerprint import run_fingerprint_job
from cluster.plan import plan_job
from lumina_ray.vocabulary import Kind

RESULTS = Path(__file__).parent / "results"


def main(
    songs: Annotated[int, typer.Option(min=1)] = 48,
    longest_s: Annotated[
        float, typer.Option(min=10.0, help="Seconds of the longest song; the shortest has 10.")
    ] = 60.0,
    model: Annotated[str, typer.Option(help="Model, as in `lumina plan`.")] = "nano",
    fingerprint: Annotated[Kind, typer.Option(help="Kind of fingerprint, as in `lumina plan`.")] = "influence",
) -> None:
    """Predict a job, run it, and compare."""
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_songs(folder, songs, 10.0, longest_s)
        predicted = plan_job(manifest, model=model, kind=fingerprint)
        begin_s = time.monotonic()
        summary = run_fingerprint_job(manifest, folder / "store", model=model, kind=fingerprint)
        took_s = time.monotonic() - begin_s
        written = sum(p.stat().st_size for p in (folder / "store").rglob("*.parquet") if p.name != "manifest.parquet")
    compared = {
        "time, s": (predicted.duration.total.expected, took_s),
        "disk, bytes": (predicted.disk_bytes, written),
        "audio, s": (predicted.audio_s, summary.audio_s),
    }
    table = Table("", "predicted", "truth", "predicted / truth")
    for what, (expected, truth) in compared.items():
        table.add_row(what, f"{expected:.4g}", f"{truth:.4g}", f"{expected / truth:.3f}")
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    results = {
        "compared": compared,
        "within_span": predicted.duration.total.low <= took_s <= predicted.duration.total.high,
        "plan": predicted.to_dict(),
        "machine": machine,
    }
    (RESULTS / "plan.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
