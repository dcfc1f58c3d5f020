"""A fingerprint job without its preparation, with the workers that a benchmark asks for."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from cluster.metrics import Times, WorkerReports
from cluster.pipeline import fill_store
from cluster.progress import show_progress
from cluster.resources import Workers
from cluster.worker import MakeRows
from lumina_ray.fingerprint import Specification
from lumina_ray.store import Run, StoreCounter, begin_run, check_complete, manifest_sha256
from lumina_ray.store.run import MANIFEST_FILE, SUCCESS_FILE


def run_job(
    store: Path,
    songs: pa.Table,
    model: str,
    specification: Specification,
    workers: Workers,
    chunks_in_flight: int,
    make: Callable[..., MakeRows] | None = None,
) -> Times:
    """Fill a new store on the connected Ray; `make` makes the workers, as in `fill_store`."""
    begin_run(store, Run(manifest_sha256(songs), len(songs), model, specification, {}))
    pq.write_table(songs, store / MANIFEST_FILE)
    counter, reports = StoreCounter(store), WorkerReports()
    with show_progress(store, counter, reports, len(songs), Console(stderr=True)):
        times = fill_store(store, model, specification, workers, chunks_in_flight, counter, reports, make)
    check_complete(store, specification)
    (store / SUCCESS_FILE).touch()
    return times
