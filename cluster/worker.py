"""What the worker of the library does besides in a job: it counts, and says when its numbers cannot be believed."""

import os
import traceback

import pyarrow as pa
import torch

from cluster.metrics import WorkerMeter, count_rows
from lumina_ray.errors import NumericsError
from lumina_ray.storage import Location
from lumina_ray.store import FingerprintWorker, condemn


class JobWorker:
    """A `FingerprintWorker` in an actor of a job."""

    def __init__(self, job: str, store: Location, make: type[FingerprintWorker], *args: object) -> None:
        """Args: the job's name for its times, the store that it fills, the worker's class and what that takes."""
        self._store = store
        self._worker = make(*args)  # type: ignore[arg-type]
        self._meter = WorkerMeter(job)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Fingerprint rows.

        Raises:
            NumericsError: a spot check failed. The store is condemned by then, whatever becomes of this process.
        """
        try:
            with self._meter.batch(len(rows)):
                made = self._worker(rows)
        except NumericsError as fault:
            condemn(self._store, str(fault))
            raise
        except torch.AcceleratorError:
            # The process has lost its CUDA context, and every later song would raise the same. Ray starts another one.
            traceback.print_exc()
            os._exit(1)
        count_rows(made)
        return made
