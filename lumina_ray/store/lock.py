"""One job a store, and one change at a time where several are made."""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from lumina_ray.errors import StoreBusy, StoreError
from lumina_ray.storage import Location, RemotePath
from lumina_ray.store.lease import lease
from lumina_ray.store.run import LOCK_FILE, RUN_FILE

# Far longer than anything takes that others wait for.
_TURN_S = 60.0
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


@contextmanager
def exclusive(store: Location) -> Iterator[None]:
    """Keep other jobs from a store for the duration of a block; the folder is made where there is none.

    The lock is the kernel's (`flock`) on a file of the store. It ends with the process that holds it, however that
    ends, so that it never stands in the way of resuming. On a shared file system it covers the other machines as far
    as that file system passes locks on, as NFS does; where it knows no locks at all, a warning says so. In a bucket it
    is a `lease`.

    Raises:
        StoreBusy: another process holds it; says which.
        StoreError: the folder cannot be written.
    """
    if isinstance(store, RemotePath):
        with lease(store):
            yield
        return
    path, made = store / LOCK_FILE, not store.exists()
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        _acquire(store, path, lock)
        yield
    finally:
        # Whoever is refused leaves what is there to the holder.
        if lock.is_locked:
            if made and not (store / RUN_FILE).exists():
                # The job did not get as far as to begin.
                with suppress(OSError):
                    path.unlink()
                    store.rmdir()
            lock.release()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block with the same file, which is made where there is none.

    Raises:
        StoreBusy: not within a minute.
        StoreError: the file cannot be written.
    """
    lock = FileLock(path, timeout=_TURN_S, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise StoreBusy(f"{path}: held by another process for {_TURN_S:.0f} s; run the same command again") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StoreError(f"{path}: cannot be written ({error.strerror}); make its folder writable") from error
        logging.getLogger(__name__).warning("%s: its file system has no locks; do one thing at a time there", path)
    try:
        yield
    finally:
        lock.release()


def _acquire(store: Path, path: Path, lock: BaseFileLock) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        path.write_text(f"{socket.gethostname()}, process {os.getpid()}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}")
    except Timeout:
        raise StoreBusy(
            f"{store}: another job is filling it ({path.read_text()}); wait for it, or stop it and run this one again"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StoreError(f"{store}: cannot be written ({error.strerror}); choose another --out") from error
        logging.getLogger(__name__).warning("%s: its file system has no locks; start no second job on it", store)
