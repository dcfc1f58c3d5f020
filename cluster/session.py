"""Connecting to Ray: the cluster that is there, or one of this machine's own for as long as it is needed."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from lumina_ray.errors import ClusterError, Interrupted, Terminated

# Decoded songs on their way to the workers: room for an hour of audio and more, without taking over a laptop.
_OBJECT_STORE_BYTES = 1 << 30
# By default, Ray ends workers that were idle for a second when there are more of them than CPUs. Each task of a job
# would then start a Python process, and import torch into it, while the workers that own a model want the CPUs.
_KEEP_IDLE_WORKERS_MS = 600_000


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the duration of a block.

    A connection that exists is used as it is. Otherwise the cluster in RAY_ADDRESS, which Ray sets for the driver of
    a submitted job. Otherwise a local one, which is stopped at the end.

    Raises:
        ClusterError: the cluster in RAY_ADDRESS does not answer, or Ray cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            with _quiet_core():
                ray.init(namespace="lumina", logging_level=logging.ERROR, log_to_driver=False)
        else:
            # With one core Ray is told of two, as a job needs one besides its worker: they share the real one.
            start_local(num_cpus=2 if len(os.sched_getaffinity(0)) == 1 else None)
    except Exception as error:  # Ray raises bare ones, too.
        where = f"the Ray cluster at RAY_ADDRESS={address}" if address else "a local Ray"
        raise ClusterError(f"cannot connect to {where}: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def start_local(num_cpus: int | None = None, num_gpus: int | None = None) -> None:
    """Start Ray on this machine, with what it has or with so many CPUs and GPUs, and connect to it."""
    with _quiet_core():
        # "local": without it, Ray would join whichever cluster was started last on this machine.
        ray.init(
            "local",
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            namespace="lumina",
            logging_level=logging.ERROR,
            log_to_driver=False,
            _system_config={"idle_worker_killing_time_threshold_ms": _KEEP_IDLE_WORKERS_MS},
        )


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Interrupted` on Ctrl-C and `Terminated` on SIGTERM for the duration of a block, once Ray is connected to.

    Ray's own handlers end the process with an exit code of theirs.
    """

    def terminate(*_: object) -> None:
        raise Terminated("stopped by SIGTERM")

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if in_main_thread else None
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped by Ctrl-C") from None
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Start Ray's C++ core in this process such that it prints nothing; what is wrong is raised all the same.

    Otherwise it would print an error about the arguments of every actor pool, which are Ray Data's own doing. And where
    it is told not to, it prints that it was told.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    sys.stderr.flush()
    shown = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)


def root_cause(error: BaseException) -> BaseException:
    """The exception that was raised in the first place, from under Ray's wrappers."""
    while True:
        inner = getattr(error, "cause", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def one_line(error: BaseException) -> str:
    """Type and first line of the root cause."""
    cause = root_cause(error)
    if isinstance(cause, ray.exceptions.UserCodeException):
        # What a worker raised does not travel with it, except as a traceback, in text.
        traceback, _, _ = str(error).partition("\n\nThe above exception was the direct cause")
        return traceback.splitlines()[-1]
    if isinstance(cause, ray.exceptions.RayActorError) and cause.actor_init_failed:
        # The same, of a worker that could not be made.
        return str(cause).strip().splitlines()[-1]
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
