"""The library's worker inside an actor of a job: it also counts, and marks a store whose numbers cannot be trusted.

This module imports no torch: that comes with the model, and benchmarks have workers without one.
"""

import os
import time
import traceback
from collections.abc import Callable

import pyarrow as pa

from cluster.metrics import WorkerMeter
from lumina_ray.errors import NumericsError, StorageError
from lumina_ray.model.lean import only_run_models
from lumina_ray.storage import Location

MakeRows = Callable[[pa.Table], pa.Table]


class JobWorker:
    """A `FingerprintWorker` in an actor of a job."""

    def __init__(self, job: str, store: Location, make: Callable[..., MakeRows], *args: object) -> None:
        """Make the worker.

        Args:
            job: name under which the worker reports, see `WorkerReports`.
            store: the store that the job fills.
            make: the worker's class.
            args: the arguments of `make`.
        """
        begin_s = time.monotonic()
        only_run_models()
        self._store = store
        self._worker = make(*args)
        self._meter = WorkerMeter(job, time.monotonic() - begin_s)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Fingerprint rows.

        Raises:
            NumericsError: a spot check failed. The store is marked as unusable by then, whatever happens to this
                process; where it cannot be marked, the message says so.
        """
        try:
            with self._meter.batch(len(rows)):
                made = self._worker(rows)
                self._meter.add(made)
        except NumericsError as fault:
            from lumina_ray.store import condemn

            try:
                condemn(self._store, str(fault))
            except (OSError, StorageError) as error:
                raise NumericsError(f"{fault}. The store cannot be marked as unusable ({error}): delete it") from error
            raise
        except RuntimeError as fault:
            from torch import AcceleratorError

            if not isinstance(fault, AcceleratorError):
                raise
            # The process has lost its CUDA context: every later song would raise the same. Ray starts another process.
            traceback.print_exc()
            os._exit(1)
        return made
