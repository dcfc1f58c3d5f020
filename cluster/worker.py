"""What the worker of the library does besides in a job: it counts, and says when its numbers cannot be believed.

Imports no torch by itself: that comes with the model, and benchmarks have workers without one.
"""

import os
import time
import traceback
from collections.abc import Callable

import pyarrow as pa

from cluster.metrics import WorkerMeter, count_rows
from lumina_ray.errors import NumericsError, StorageError
from lumina_ray.storage import Location

MakeRows = Callable[[pa.Table], pa.Table]


class JobWorker:
    """A `FingerprintWorker` in an actor of a job."""

    def __init__(self, job: str, store: Location, make: Callable[..., MakeRows], *args: object) -> None:
        """Args: the job's name for its times, the store that it fills, the worker's class and what that takes."""
        begin_s = time.monotonic()
        self._store = store
        self._worker = make(*args)
        self._meter = WorkerMeter(job, time.monotonic() - begin_s)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Fingerprint rows.

        Raises:
            NumericsError: a spot check failed. The store is condemned by then, whatever becomes of this process, or the
                message says that it should be and could not.
        """
        try:
            with self._meter.batch(len(rows)):
                made = self._worker(rows)
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
            # The process has lost its CUDA context, and every later song would raise the same. Ray starts another one.
            traceback.print_exc()
            os._exit(1)
        count_rows(made)
        return made
