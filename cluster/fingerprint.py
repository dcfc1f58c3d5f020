"""Fingerprint a catalog on Ray: every song of a manifest becomes one row of a store. Resumable.

lumina fingerprint MANIFEST --out STORE --model nano
ray job submit --working-dir . -- python -m cluster.fingerprint MANIFEST --out STORE --model nano
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.console import Console

from cluster.metrics import Times
from cluster.pipeline import fill_store, songs_in_block
from cluster.preflight import Workers, check_disk, describe_model, plan_workers
from cluster.progress import say, show_progress
from cluster.session import one_line, ray_session, root_cause, stoppable
from lumina_ray.catalog.durations import song_durations
from lumina_ray.catalog.manifest import METADATA_COLUMNS, read_manifest, write_manifest
from lumina_ray.errors import Interrupted, LuminaError, SpecificationMismatch, StorageError, TooManyFailures, UsageError
from lumina_ray.fingerprint import CHANNELS, Channel, Dtype, Kind, Specification
from lumina_ray.model.files import AUDIOCRAFT_PREFIX, BUNDLED
from lumina_ray.model.statistics import UNKNOWN
from lumina_ray.storage import Location, RemotePath, locate
from lumina_ray.store import (
    Run,
    StoreCounter,
    begin_run,
    check_complete,
    check_not_condemned,
    drop_damaged,
    exclusive,
    manifest_sha256,
    read_rows,
    read_store,
)
from lumina_ray.store.forecast import chunk_songs, code_bytes, store_bytes
from lumina_ray.store.read import check_metadata, sort_rows
from lumina_ray.store.run import MANIFEST_FILE, RUN_FILE, SUCCESS_FILE, read_run

DEFAULT_MAX_FAILED_FRACTION = 0.5
_LISTED_FAILURES = 20
# Below, another decoder would gain next to nothing.
_MUCH_WAITING = 0.1
# Columns of a store's rows that a model made.
_OF_A_MODEL = ("codes", "chunk_frames", "chunk_starts_s", "error_code", "error")
# While a store's rows are put in order.
_COPIES_OF_CODES = 3

ChannelChoice = Literal["both", "P", "M"]


@dataclass(frozen=True)
class Failure:
    """A song that has no fingerprint, and why."""

    song_id: str
    error_code: str
    error: str


@dataclass(frozen=True)
class JobSummary:
    """What a job did.

    Attributes:
        songs, ok, failed: in the finished store.
        computed: songs that this run added; the others were there before.
        audio_s: duration of the songs that are `ok`.
        wait_fraction: of the workers' time between their first and last batch, how much they had nothing to compute;
            None where there were no two batches.
        failures: the first failed songs, by id.
    """

    store: str
    fingerprint: str
    model: str
    device: str
    workers: int
    songs: int
    ok: int
    failed: int
    computed: int
    audio_s: float
    elapsed_s: float
    decoders: int
    wait_fraction: float | None
    failures: tuple[Failure, ...]

    @property
    def sentence(self) -> str:
        """For people."""
        counts = f"{self.ok} songs, {self.failed} failed"
        if not self.computed:
            return f"{self.store} was finished before, nothing to do: {counts}"
        before = f", {self.songs - self.computed} of them before" if self.computed < self.songs else ""
        done = f"{self.store}: {counts}{before}; {self.audio_s / 60:.1f} min of audio in {self.elapsed_s:.0f} s"
        if self.wait_fraction is None:
            return done
        advice = ""
        if self.wait_fraction > _MUCH_WAITING:
            advice = f"; raise --decoders (now {self.decoders}), on more CPUs if these are busy"
        return f"{done}; workers waited for songs {self.wait_fraction:.0%} of the time{advice}"

    def to_dict(self) -> dict:
        """For machines."""
        return asdict(self) | {"failures": [asdict(failure) for failure in self.failures]}


def run_fingerprint_job(
    source: Location,
    store: Location,
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
        store: where to write. On a cluster it must be a folder that all nodes share, or in a bucket, as must the audio.
        channels: one channel alone costs less; what is made of the store then has that channel only.
        dtype: of the matrix products; see docs/fingerprints.md for what the lower ones change.
        device: "auto" (GPUs where the cluster has any), "cpu" or "cuda".
        workers: models loaded at once; by default one for each GPU, or for each CPU.
        decoders: songs decoded at once, see `plan_workers`.
        max_failed_fraction: of the songs. When more of them failed, that is an error, after everything is stored.
        console: for progress; by default standard error.

    Raises:
        ManifestError, StoreError: the source is unusable, or `store` is something else's.
        ModelError: the model is not at hand or unsuitable.
        SpecificationMismatch: `store` was begun with other songs, other facts of them, another model or another kind.
        ClusterError: the cluster cannot run the job as asked.
        NumericsError: a worker's vectors are not what they are said to be; `store` is condemned.
        TooManyFailures: see `max_failed_fraction`.
        StoreBusy: another job is filling `store`.
        StorageError: a bucket does not answer, or refuses.
        Interrupted: Ctrl-C or, as `Terminated`, SIGTERM.
        LuminaError: anything else that stopped the job, its cause in one line.
    """
    begin_s = time.monotonic()
    console = console or Console(stderr=True)
    source, store, model = source.resolve(), store.resolve(), absolute_model(model)
    songs = read_songs(source)
    check_not_condemned(store)
    times = Times()
    finished_before = (store / SUCCESS_FILE).exists()
    # A finished store is only looked at, and may lie where nobody can write.
    with nullcontext() if finished_before else exclusive(store), ray_session(), _causes(store, len(songs)), stoppable():
        plan = plan_workers(device, workers, decoders)
        say(console, _describe_plan(plan))
        specification, environment = describe_model(model, plan, kind, channels, dtype)
        if specification.statistics_sha256 == UNKNOWN:
            say(
                console,
                f"{model} does not know what its music has in common, which makes influence less true: "
                "`lumina statistics` finds out, from a store of its catalog.",
            )
        _check_codes(source, specification)
        if (store / RUN_FILE).exists():
            # How many chunks fit into memory changes with what else is there; a run goes on with what it began with.
            begun_with = read_run(store).environment.get("chunks_in_flight", "")
            environment["chunks_in_flight"] = begun_with or environment["chunks_in_flight"]
        run = Run(manifest_sha256(songs), len(songs), model, specification, environment)
        if not finished_before and isinstance(store, Path):
            check_disk(store, _bytes_to_write(store, songs, specification, plan))
        resumed = begin_run(store, run)
        if (store / MANIFEST_FILE).exists():
            check_metadata(store, songs)
        if not finished_before:
            if damaged := drop_damaged(store):
                say(console, f"Damaged, made again: {len(damaged)} data files, such as {damaged[0]}.")
            if resumed:
                say(console, f"Resuming {store}: {StoreCounter(store).count().songs} of {len(songs)} songs are stored.")
            before = StoreCounter(store).count().songs
            if not (store / MANIFEST_FILE).exists():
                write_manifest(songs, store / MANIFEST_FILE)
            with show_progress(store, run.n_songs, console):
                times = fill_store(store, model, specification, plan, int(environment["chunks_in_flight"]))
        ok, failed = check_complete(store, specification)
        if not finished_before:
            (store / SUCCESS_FILE).touch()
    summary = JobSummary(
        store=str(store),
        fingerprint=kind,
        model=model,
        device=plan.device,
        workers=plan.count,
        songs=ok + failed,
        ok=ok,
        failed=failed,
        computed=0 if finished_before else ok + failed - before,
        audio_s=StoreCounter(store).count().audio_s,
        elapsed_s=time.monotonic() - begin_s,
        decoders=plan.decoders,
        wait_fraction=times.wait_fraction,
        failures=_failures(store, specification),
    )
    _say_failures(summary, console)
    if failed > max_failed_fraction * summary.songs:
        raise TooManyFailures(
            f"{failed} of {summary.songs} songs failed, more than the {max_failed_fraction:.0%} that are allowed "
            f"(--max-failed-fraction), such as {summary.failures[0].error}. {store} is complete all the same"
        )
    return summary


@contextmanager
def _causes(store: Location, n_songs: int) -> Iterator[None]:
    """Say how far a job came that is stopped, and why in one line: what a worker, Ray or a file system raised."""
    try:
        yield
    except Interrupted as error:
        raise type(error)(f"{error}: {_progress(store, n_songs)}") from None
    except LuminaError:
        raise
    except Exception as error:
        if isinstance(store, RemotePath) and isinstance(root_cause(error), OSError):
            # Of what Ray itself reads and writes, when its retries are over. How far it came cannot be asked now.
            raise StorageError(
                f"{store}: the job stopped: {one_line(error)}; the same command goes on with what is not stored"
            ) from error
        raise LuminaError(
            f"the job stopped: {one_line(error)}. {_progress(store, n_songs)}; Ray's logs have the details (by default "
            "in /tmp/ray/session_latest/logs)"
        ) from error


def _progress(store: Location, n_songs: int) -> str:
    try:
        stored = f"{StoreCounter(store).count().songs} of {n_songs} songs are stored"
    except StorageError as error:
        stored = f"how far it came cannot be told ({error})"
    return f"{stored}, and the same command goes on from there"


def read_songs(source: Location) -> pa.Table:
    """The rows of the job: a manifest's, or those of a store with their codes.

    Raises:
        ManifestError, StoreError: as for a job.
        UsageError: a store of more codes than this machine's memory has room for.
    """
    if not source.is_dir():
        songs = read_manifest(source)
        # One that was put together from rows of stores. Whose codes they are nothing there says.
        return songs.drop_columns([name for name in _OF_A_MODEL if name in songs.column_names])
    _check_memory(source)
    passed_on = ("song_id", "path", *METADATA_COLUMNS, "audio_sha256", "duration_s")
    read = read_store(source, [*passed_on, *_OF_A_MODEL, "status"])
    return pa.concat_tables([read.songs, read.failed]).drop_columns("status")


def _check_memory(source: Location) -> None:
    codes = code_bytes(StoreCounter(source).count().audio_s)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _COPIES_OF_CODES * codes > memory:
        raise UsageError(
            f"{source}: its codes are {codes / 2**30:.1f} GiB, and a job holds them {_COPIES_OF_CODES} times, in the "
            f"{memory / 2**30:.1f} GiB of this machine; give its manifest.parquet, and its audio is decoded and "
            "encoded again, or start the job on a machine with more memory"
        )


def _bytes_to_write(store: Location, songs: pa.Table, specification: Specification, workers: Workers) -> int:
    durations_s, _ = song_durations(songs)
    whole = store_bytes(chunk_songs(durations_s).kept_s, specification, songs_in_block(len(songs), workers))
    return int(whole * (1 - StoreCounter(store).count().songs / len(songs)))


def _check_codes(source: Location, specification: Specification) -> None:
    """Codes mean nothing to another codec, and nothing but the weights' hash tells codecs apart."""
    if source.is_dir() and (made_with := read_run(source).specification.weights_sha256) != specification.weights_sha256:
        raise SpecificationMismatch(
            f"{source} holds codes of a model with weights {made_with[:12]}, this one has "
            f"{specification.weights_sha256[:12]}; give the manifest instead of the store"
        )


def absolute_model(name: str) -> str:
    """Workers have other current folders than the driver."""
    bare = name.removeprefix(AUDIOCRAFT_PREFIX)
    folder = Path(bare).expanduser()
    if bare in BUNDLED or not folder.is_dir():
        return name
    return name.removesuffix(bare) + str(folder.resolve())


def chosen_channels(choice: ChannelChoice) -> tuple[Channel, ...]:
    """What an option for channels stands for."""
    return CHANNELS if choice == "both" else (choice,)


def _describe_plan(plan: Workers) -> str:
    if plan.device == "cuda":
        return f"Running on {plan.count} GPU{'s' if plan.count > 1 else ''}."
    return f"Running on the CPU, not on a GPU: {plan.count} workers of one thread each."


def _failures(store: Location, specification: Specification) -> tuple[Failure, ...]:
    rows = read_rows(store, specification, ["song_id", "status", "error_code", "error"])
    failed = sort_rows(rows.filter(pc.equal(rows["status"], "failed")).drop_columns("status"))
    return tuple(Failure(**row) for row in failed.slice(0, _LISTED_FAILURES).to_pylist())


def _say_failures(summary: JobSummary, console: Console) -> None:
    for failure in summary.failures:
        say(console, f"failed: {failure.song_id}: {failure.error} [{failure.error_code}]")
    if summary.failed > len(summary.failures):
        say(console, f"… and {summary.failed - len(summary.failures)} more: the rows of the store with status 'failed'")


def main(
    source: Annotated[
        str, typer.Argument(metavar="MANIFEST", help="A manifest (.parquet or .csv), or a finished store.")
    ],
    out: Annotated[
        str, typer.Option(help="The store to write, or to resume: a folder that all nodes share, or s3:// or gs://.")
    ],
    model: Annotated[str, typer.Option(help="nano, nano-early, a hub name, or a folder.")] = "nano",
    fingerprint: Annotated[
        Kind,
        typer.Option(
            help="influence (ours), stats (LUMINA v8), jl (LUMINA v7), or what another method needs: `lumina methods`."
        ),
    ] = "influence",
    channels: Annotated[ChannelChoice, typer.Option(help="One channel alone costs less.")] = "both",
    dtype: Annotated[Dtype, typer.Option(help="Of the model's matrix products; float32 is the reference.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Models loaded at once.")] = None,
    decoders: Annotated[int | None, typer.Option(min=1, help="Songs decoded at once.")] = None,
    max_failed_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit with code 3 when more of the songs failed.")
    ] = DEFAULT_MAX_FAILED_FRACTION,
) -> None:
    """Fingerprint a catalog: every song of MANIFEST becomes one row of the store. Resumable."""
    try:
        summary = run_fingerprint_job(
            locate(source),
            locate(out),
            model=model,
            kind=fingerprint,
            channels=chosen_channels(channels),
            dtype=dtype,
            device=device,
            workers=workers,
            decoders=decoders,
            max_failed_fraction=max_failed_fraction,
        )
    except LuminaError as error:
        typer.echo(f"cluster.fingerprint: {error}", err=True)
        sys.exit(error.exit_code)
    typer.echo(summary.sentence)


if __name__ == "__main__":
    typer.run(main)
