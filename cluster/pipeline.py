"""Manifest → decode → fingerprint → Parquet on Ray Data. No other module imports `ray.data`.

The code around the pipeline guards against defaults of Ray Data 2.60 that do not suit the job.
"""

import functools
import gc
import logging
import warnings
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from ray.data.checkpoint import CheckpointConfig
from ray.util.annotations import RayDeprecationWarning

from cluster.decode import decode_guarded
from cluster.metrics import Times, WorkerReports, measured
from cluster.resources import TASK_CPUS, Workers, songs_in_block
from cluster.session import one_line, root_cause
from cluster.worker import JobWorker, MakeRows
from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.errors import SpecificationMismatch, StorageError
from lumina_ray.fingerprint import Specification
from lumina_ray.storage import Location, address, answering
from lumina_ray.store import (
    FingerprintWorker,
    StoreCounter,
    check_not_condemned,
    finish_commits,
    has_codes,
    read_run,
    store_schema,
)
from lumina_ray.store.run import CHECKPOINT_FOLDER, DATA_FOLDER, MANIFEST_FILE

# Retries of a block after its worker died. Without a limit, a song that kills its process would do so for ever.
_RETRIES = 2
# When more blocks are lost than either of these, a number and a fraction, the fault is the job's and not a song's.
_MAX_LOST_BLOCKS = 16
_MAX_LOST_FRACTION = 0.01
# No block takes as long. Missing GPUs or CPUs are found before the job starts.
_NO_PROGRESS_S = 3600
_FILTER_BYTES = 64 << 20
# Errors that are raised in a task, or when a worker is made, come back as text that begins with their name.
_ENDS_THE_JOB = {f"{kind.__module__}.{kind.__qualname__}: ": kind for kind in (StorageError, SpecificationMismatch)}


def fill_store(
    store: Location,
    model: str,
    specification: Specification,
    workers: Workers,
    chunks_in_flight: int,
    counter: StoreCounter,
    reports: WorkerReports,
    make: Callable[..., MakeRows] | None = None,
) -> Times:
    """Fingerprint every song of the store's manifest that has no row yet.

    A block that is lost because a song kills its process, or makes it raise, is run again song by song; a song that is
    lost alone becomes a failed row. In the end every song has exactly one row.

    Args:
        specification: specification of the fingerprints.
        chunks_in_flight: chunks in each batch of the model.
        counter: counts the store's rows.
        reports: receives the workers' reports while the job runs.
        make: the worker's class, called in each worker's process with the arguments of `FingerprintWorker`; by default
            that class itself.

    Returns:
        Times of the workers.

    Raises:
        NumericsError: a worker's vectors are wrong; the store is marked as unusable.
        OSError: the store cannot be written, or read.
        StorageError: the bucket of the store, or of songs, does not answer.
        SpecificationMismatch: a worker's machine or software is not the one that the run was begun on.
    """
    name, filesystem = address(store / MANIFEST_FILE)
    with answering(store / MANIFEST_FILE):
        manifest = pq.read_metadata(name, filesystem=filesystem)
    environment = read_run(store).environment
    columns, n_songs = manifest.schema.to_arrow_schema().empty_table(), manifest.num_rows
    per_block = songs_in_block(n_songs, workers)

    def fingerprint(songs: ray.data.Dataset, songs_at_once: int, in_flight: int | None) -> ray.data.Dataset:
        if not has_codes(columns):
            # Decoding has tasks of its own, which need no model and no GPU.
            songs = songs.map_batches(
                measured(functools.partial(decode_guarded, decode=decode_rows)),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.TaskPoolStrategy(size=workers.decoders),
                num_cpus=TASK_CPUS,
                max_retries=_RETRIES,
            )
        return songs.map_batches(
            JobWorker,
            fn_constructor_args=(
                reports.job,
                store,
                make or FingerprintWorker,
                model,
                specification.to_dict(),
                workers.device,
                chunks_in_flight,
                environment,
            ),
            batch_size=songs_at_once,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers.count, max_tasks_in_flight_per_actor=in_flight),
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
            max_task_retries=_RETRIES,
        )

    def give_up(songs: ray.data.Dataset) -> ray.data.Dataset:
        reason = lost.last or "no cause known"
        return songs.map_batches(
            functools.partial(_failed_rows, specification=specification.to_dict(), reason=reason),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=TASK_CPUS,
        )

    # A worker gets as many songs as can share a batch (each has at least one chunk), and at most a block.
    together = functools.partial(fingerprint, songs_at_once=min(chunks_in_flight, per_block), in_flight=None)
    # No song waits at a worker for another: it would share each of its deaths, and be taken for a cause of them.
    one_by_one = functools.partial(fingerprint, songs_at_once=1, in_flight=1)
    with _LostBlocks(store) as lost:
        for stages, size in ((together, per_block), (one_by_one, 1), (give_up, 1)):
            stored = counter.count()
            if (missing := n_songs - stored.songs) > 0:
                max_lost = max(_MAX_LOST_BLOCKS, int(_MAX_LOST_FRACTION * missing / size))
                # Errors refer to Ray Data's actors through their tracebacks, in cycles. Until they are collected, the
                # actors of the pass or job before keep the CPUs and GPUs that this pass would wait for.
                gc.collect()
                finish_commits(store)
                reports.begin_pass(stored)
                _run(store, stages, size, max_lost)
    return reports.take()


def _run(
    store: Location, stages: Callable[[ray.data.Dataset], ray.data.Dataset], songs_per_block: int, max_lost: int
) -> None:
    """Read the songs that are not committed yet, map them, and write and commit the result block by block."""
    (manifest, filesystem), (records, _), (data, _) = (
        address(store / name) for name in (MANIFEST_FILE, CHECKPOINT_FOLDER, DATA_FOLDER)
    )
    checkpoint = CheckpointConfig(
        "song_id", records, override_filesystem=filesystem, delete_checkpoint_on_success=False
    )
    checkpoint.checkpoint_actor_memory_bytes = _FILTER_BYTES
    context = ray.data.DataContext.get_current().copy()
    context.checkpoint_config = checkpoint
    context.max_errored_blocks = max_lost
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The newer reader starts four processes for each read, although a manifest has a single footer.
    context.use_datasource_v2 = False
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        # The warning is about limits on retries, which have no other place than the remote arguments yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        songs = ray.data.read_parquet(manifest, filesystem=filesystem, num_cpus=TASK_CPUS)
        # A small manifest would otherwise be one block: one worker, and nothing committed until the end.
        songs = songs.repartition(target_num_rows_per_block=songs_per_block)
        # Numbers that never repeat, in a dictionary, would make files a third larger and writing five times slower;
        # statistics would hold a short song's codes four times over. Nothing reads either of them.
        stages(songs).write_parquet(
            data,
            filesystem=filesystem,
            ray_remote_args={"num_cpus": TASK_CPUS},
            use_dictionary=False,
            write_statistics=False,
        )


def _failed_rows(rows: pa.Table, specification: dict, reason: str) -> pa.Table:
    schema = store_schema(Specification.from_dict(specification))
    kept = rows.select(["song_id", "path", *METADATA_COLUMNS]).to_pylist()
    failed = {"status": "failed", "error_code": "worker.failed"}
    return pa.Table.from_pylist(
        [
            row | failed | {"error": f"{row['path']}: its worker died or raised, alone and repeatedly ({reason})"}
            for row in kept
        ],
        schema=schema,
    )


class _LostBlocks(logging.Handler):
    """Takes the place of Ray Data's console log, which reports every lost block, and nothing else that matters.

    Where a song is the cause, the job goes on. Where it is not, the handler raises an error in Ray Data's own loop,
    which ends the job at once: a worker has marked the store as unusable or runs on another kind of machine, or the
    store cannot be read or written.

    Attributes:
        last: cause of the last lost block.
    """

    def __init__(self, store: Location) -> None:
        super().__init__(logging.ERROR)
        self.last: str | None = None
        self._store = store

    def emit(self, record: logging.LogRecord) -> None:
        if not record.exc_info or not (error := record.exc_info[1]):
            return
        self.last = one_line(error)
        # The record may be kept elsewhere; Ray Data's actors must not be kept with it.
        record.exc_info = None
        check_not_condemned(self._store)
        # A song's file that cannot be read is a failed row, and raises nothing. So this is the store, or a bucket.
        if isinstance(cause := root_cause(error), OSError):
            raise cause
        for prefix, kind in _ENDS_THE_JOB.items():
            if self.last.startswith(prefix):
                raise kind(self.last.removeprefix(prefix))

    def __enter__(self) -> "_LostBlocks":
        self._logger = logging.getLogger("ray.data")
        self._silenced = [handler for handler in self._logger.handlers if isinstance(handler, logging.StreamHandler)]
        for handler in self._silenced:
            self._logger.removeHandler(handler)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        for handler in self._silenced:
            self._logger.addHandler(handler)
