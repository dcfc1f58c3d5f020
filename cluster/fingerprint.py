"""Fingerprint a catalog on Ray: every song of a manifest becomes one row of a store. Resumable.

lumina fingerprint MANIFEST --out STORE --model nano
ray job submit -- python -m lumina_ray fingerprint /shared/MANIFEST --out /shared/STORE --model nano
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from cluster.inputs import read_songs
from cluster.metrics import Times, WorkerReports
from cluster.pipeline import fill_store
from cluster.preflight import bytes_to_write, check_codes, check_disk, describe_model
from cluster.progress import say, show_progress
from cluster.resources import Workers, choose_workers
from cluster.session import one_line, ray_session, root_cause, stoppable
from cluster.summary import JobSummary, first_failures, say_faults
from lumina_ray.catalog.manifest import write_manifest
from lumina_ray.embedding.table import EMBEDDERS
from lumina_ray.errors import Interrupted, LuminaError, StorageError, TooManyFailures
from lumina_ray.files import check_lasting
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.model.files import absolute_model
from lumina_ray.model.statistics import UNKNOWN
from lumina_ray.storage import AnyPath, Location, RemotePath, locate
from lumina_ray.store import (
    Run,
    StoreCounter,
    begin_run,
    check_complete,
    check_not_condemned,
    drop_damaged,
    exclusive,
    manifest_sha256,
)
from lumina_ray.store.equal_audio import equal_audio
from lumina_ray.store.read import check_metadata
from lumina_ray.store.run import MANIFEST_FILE, RUN_FILE, SUCCESS_FILE, read_run
from lumina_ray.vocabulary import CHANNELS, Channel, Dtype, Kind

DEFAULT_MAX_FAILED_FRACTION = 0.5


def run_fingerprint_job(
    source: AnyPath,
    store: AnyPath,
    *,
    model: str,
    kind: Kind,
    channels: tuple[Channel, ...] = CHANNELS,
    dtype: Dtype = "float32",
    device: str = "auto",
    workers: int | None = None,
    decoders: int | None = None,
    max_failed_fraction: float = DEFAULT_MAX_FAILED_FRACTION,
    console: Console | None = None,
) -> JobSummary:
    """Fingerprint every song of a manifest, or go on where an earlier run of the same job was interrupted.

    Args:
        source: a manifest (.parquet or .csv), or a finished store made with the same model, whose codes are used again
            so that nothing is decoded or encoded.
        store: folder or bucket to write to. On a cluster, all nodes must reach it under the same path, and the audio
            too.
        model: a bundled name, a hub name, or a folder.
        kind: kind of fingerprint, see `lumina_ray/fingerprint/kinds.py`.
        channels: one channel alone costs less; an index of the store then has that channel only.
        dtype: number format of the matrix products; docs/fingerprints.md says what the lower ones change.
        device: "auto" (GPUs where the cluster has any), "cpu" or "cuda".
        workers: models loaded at once; by default one for each GPU, or for each CPU.
        decoders: songs decoded at once, see `choose_workers`.
        max_failed_fraction: the fraction of songs that may fail. More are an error, after everything is stored.
        console: for progress; by default standard error.

    Returns:
        Numbers of songs, times, and the first failures.

    Raises:
        ManifestError, StoreError: the source is unusable, or `store` holds something else.
        UsageError: no such device, a `store` in Ray's copy of a working directory, or a source with more codes than
            this machine's memory has room for.
        ModelError: the model is not at hand or unsuitable.
        SpecificationMismatch: `store` was begun with other songs, other facts of them, another model or another kind.
        ClusterError: the cluster cannot run the job as asked.
        NumericsError: a worker's vectors are wrong; `store` is marked as unusable.
        TooManyFailures: see `max_failed_fraction`.
        StoreBusy: another job is filling `store`.
        StorageError: a bucket does not answer, or refuses.
        Interrupted: Ctrl-C or, as `Terminated`, SIGTERM.
        LuminaError: any other cause that stopped the job, in one line.
    """
    begin_s = time.monotonic()
    console = console or Console(stderr=True)
    announce = functools.partial(say, console)
    source, store, model = locate(source).resolve(), locate(store).resolve(), absolute_model(model)
    check_lasting(store)
    songs = read_songs(source)
    check_not_condemned(store)
    counter, reports = StoreCounter(store), WorkerReports()
    times, before = Times(), 0
    finished_before = (store / SUCCESS_FILE).exists()
    # A finished store is only read, and may lie where nobody can write.
    lock = nullcontext() if finished_before else exclusive(store)
    with lock, ray_session(announce), _causes(store, counter, len(songs)), stoppable():
        chosen = choose_workers(device, workers, decoders)
        announce(chosen.sentence)
        announce(f"Opening the model {model}.")
        specification, environment = describe_model(model, chosen, kind, channels, dtype)
        if specification.statistics_sha256 == UNKNOWN:
            announce(
                f"{model} does not know what its music has in common, which makes influence less true: "
                "`lumina statistics` finds out, from a store of its catalog."
            )
        if embedder := EMBEDDERS.get(find_kind(specification.kind, specification.representation).embedder):
            announce(f"The fingerprints are made with weights of {embedder.name}, whose licence is {embedder.licence}.")
        check_codes(source, specification)
        if (store / RUN_FILE).exists():
            # The number of chunks that fit into memory depends on other processes. A run keeps the one it began with.
            begun_with = read_run(store).environment.get("chunks_in_flight", "")
            environment["chunks_in_flight"] = begun_with or environment["chunks_in_flight"]
        run = Run(manifest_sha256(songs), len(songs), model, specification, environment)
        if finished_before:
            begin_run(store, run)
            if (store / MANIFEST_FILE).exists():
                check_metadata(store, songs)
        else:
            if isinstance(store, Path):
                check_disk(store, bytes_to_write(songs, counter.count().songs, specification, chosen))
            before = _begin(store, run, songs, counter, console)
            announce(f"Loading the model in {_count_workers(chosen)}.")
            with show_progress(store, counter, reports, run.n_songs, console):
                chunks_in_flight = int(environment["chunks_in_flight"])
                times = fill_store(store, model, specification, chosen, chunks_in_flight, counter, reports)
        ok, failed = check_complete(store, specification)
        if not finished_before:
            (store / SUCCESS_FILE).touch()
    summary = JobSummary(
        store=str(store),
        fingerprint=kind,
        model=model,
        device=chosen.device,
        workers=chosen.count,
        songs=ok + failed,
        ok=ok,
        failed=failed,
        computed=0 if finished_before else ok + failed - before,
        audio_s=counter.count().audio_s,
        elapsed_s=time.monotonic() - begin_s,
        decoders=chosen.decoders,
        wait_fraction=times.wait_fraction,
        failures=first_failures(store, specification),
        equal_audio=equal_audio(store),
    )
    say_faults(summary, console)
    if failed > max_failed_fraction * summary.songs:
        raise TooManyFailures(
            f"{failed} of {summary.songs} songs failed, more than the {max_failed_fraction:.0%} that are allowed "
            f"(--max-failed-fraction), such as {summary.failures[0].error}. {store} is complete all the same"
        )
    return summary


def _begin(store: Location, run: Run, songs: pa.Table, counter: StoreCounter, console: Console) -> int:
    """Begin a store, or make an unfinished one ready to go on. Gives the number of songs that are stored already."""
    resumed = begin_run(store, run)
    if (store / MANIFEST_FILE).exists():
        check_metadata(store, songs)
    if damaged := drop_damaged(store):
        say(console, f"Damaged, made again: {len(damaged)} data files, such as {damaged[0]}.")
    before = counter.count().songs
    if resumed:
        say(console, f"Resuming {store}: {before} of {len(songs)} songs are stored.")
    if not (store / MANIFEST_FILE).exists():
        write_manifest(songs, store / MANIFEST_FILE)
    return before


def _count_workers(workers: Workers) -> str:
    return f"{workers.count} {'worker' if workers.count == 1 else 'workers'}"


@contextmanager
def _causes(store: Location, counter: StoreCounter, n_songs: int) -> Iterator[None]:
    """Raise any error of a worker, of Ray or of a file system as one line that says how far the job came."""
    try:
        yield
    except Interrupted as error:
        raise type(error)(f"{error}: {_progress(counter, n_songs)}") from None
    except LuminaError:
        raise
    except Exception as error:
        if isinstance(store, RemotePath) and isinstance(root_cause(error), OSError):
            # Ray itself reads and writes there, and its retries are over. How far the job came cannot be asked now.
            raise StorageError(
                f"{store}: the job stopped: {one_line(error)}; the same command goes on with what is not stored"
            ) from error
        raise LuminaError(
            f"the job stopped: {one_line(error)}. {_progress(counter, n_songs)}; Ray's logs have the details (by "
            "default in /tmp/ray/session_latest/logs)"
        ) from error


def _progress(counter: StoreCounter, n_songs: int) -> str:
    try:
        stored = f"{counter.count().songs} of {n_songs} songs are stored"
    except StorageError as error:
        stored = f"how far it came cannot be told ({error})"
    return f"{stored}, and the same command goes on from there"
