"""Connecting to Ray: to a cluster that is there, or to a Ray on this machine for as long as it is needed."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from lumina_ray.errors import ClusterError, Interrupted, Terminated
from lumina_ray.front.ray_address import check_ray_address

# Room for decoded songs on their way to the workers: more than an hour of audio, and little of a laptop's memory.
_OBJECT_STORE_BYTES = 1 << 30
# By default, Ray ends workers that were idle for a second when there are more of them than CPUs. Each task of a job
# would then start a Python process, and import torch into it, while the workers that own a model need the CPUs.
_KEEP_IDLE_WORKERS_MS = 600_000
# What Ray says of a socket's name that no system takes, and of its own processes that were too slow.
_TOO_LONG = "AF_UNIX path length"
_TOO_BUSY = ("timed out during startup", "Timed out")


@contextmanager
def ray_session(announce: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Connect to Ray for the duration of a block.

    A connection that exists is used as it is. Otherwise the cluster in RAY_ADDRESS is used, which Ray sets for the
    driver of a submitted job. Without RAY_ADDRESS a local Ray is started, and stopped at the end.

    Args:
        announce: called with a sentence before something is started or connected to.

    Raises:
        ClusterError: the cluster in RAY_ADDRESS does not answer, or Ray cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    check_ray_address()
    try:
        if address:
            announce(f"Connecting to the Ray cluster at {address}.")
            with _quiet_core():
                ray.init(namespace="lumina", logging_level=logging.ERROR, log_to_driver=False)
        else:
            announce("Starting Ray on this machine.")
            # On one core Ray is told of two, as a job needs one besides its worker: both share the real one.
            _start_patiently(2 if len(os.sched_getaffinity(0)) == 1 else None, announce)
    except ClusterError:
        raise
    except Exception as error:  # Ray raises bare ones too.
        where = f"the Ray cluster at RAY_ADDRESS={address}" if address else "a local Ray"
        raise ClusterError(f"cannot connect to {where}: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _start_patiently(num_cpus: int | None, announce: Callable[[str], None]) -> None:
    """Start Ray on this machine, once more where the machine was too busy.

    Raises:
        ClusterError: it was too busy again, or its temporary folder has too long a name.
    """
    for last in (False, True):
        try:
            start_local(num_cpus)
        except Exception as error:
            # What was started goes on, half of a cluster.
            ray.shutdown()
            cause = str(error)
            if _TOO_LONG in cause:
                raise ClusterError(
                    f"Ray cannot start: the name of its temporary folder is too long for its sockets ({cause}). Set "
                    "RAY_TMPDIR to a folder with a short name, such as /tmp"
                ) from error
            if not any(words in cause for words in _TOO_BUSY):
                raise
            if last:
                raise ClusterError(
                    f"Ray did not start on this machine in two attempts ({one_line(error)}): it gives its processes "
                    "30 s. Try again when the machine is less busy, or give it more CPUs"
                ) from error
            announce("Ray did not start in time; trying once more.")
        else:
            return


def start_local(num_cpus: int | None = None, num_gpus: int | None = None) -> None:
    """Start Ray on this machine and connect to it, by default with all its CPUs and GPUs."""
    with _quiet_core():
        # Without "local", Ray would join whichever cluster was started last on this machine.
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
    """Raise `Interrupted` on Ctrl-C and `Terminated` on SIGTERM for the duration of a block. Connect to Ray before.

    Ray's own handlers would end the process with another exit code.
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
    """Start Ray's C++ core in this process so that it prints nothing. Errors are raised all the same.

    Otherwise it prints an error about the arguments of every actor pool, which Ray Data itself chooses. When it is told
    to be quiet, it prints that too.
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
    """The exception that was raised first, without Ray's wrappers around it."""
    while True:
        inner = getattr(error, "cause", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def one_line(error: BaseException) -> str:
    """Type and first line of the root cause."""
    cause = root_cause(error)
    if isinstance(cause, ray.exceptions.UserCodeException):
        # The worker's exception does not travel with it, except as a traceback in text.
        traceback, _, _ = str(error).partition("\n\nThe above exception was the direct cause")
        return traceback.splitlines()[-1]
    if isinstance(cause, ray.exceptions.RayActorError) and cause.actor_init_failed:
        # The worker could not be made; its exception is a traceback in text too.
        return str(cause).strip().splitlines()[-1]
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
