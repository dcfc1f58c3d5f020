"""One job a store in a bucket, where there are no locks: the holder signs an object, again and again.

pyarrow offers no write that fails when the object is there. So a job writes its name, looks a little later whether it
still stands there, and gives way if not. Two that begin within the same moment exclude each other as long as no write
takes longer than that; what they would do to a store all the same, `check_complete` finds.
"""

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from lumina_ray.errors import StorageError, StoreBusy
from lumina_ray.storage import RemotePath
from lumina_ray.store.run import LOCK_FILE

_SIGN_EVERY_S = 10.0
# Of a holder that is dead, as after `kill -9`. Counted here and not from the object's time: clocks differ.
_SILENT_S = 60.0
_LOOK_EVERY_S = 1.0
_SETTLED_S = 2.0


@contextmanager
def lease(store: RemotePath) -> Iterator[None]:
    """Keep other jobs from a store for the duration of a block.

    Where another job died, it takes a minute to be sure of that.

    Raises:
        StoreBusy: another job holds it, or took it over while this one could not be heard.
        StorageError: the bucket does not answer.
    """
    path, numbers = store / LOCK_FILE, itertools.count()
    name = f"{socket.gethostname()}, process {os.getpid()}, {uuid4()}"
    _await_silence(store, path)

    def sign() -> None:
        path.write_text(f"{name}, {next(numbers)}")

    def is_mine() -> bool:
        return _read(path).startswith(name)

    sign()
    time.sleep(_SETTLED_S)
    if not is_mine():
        raise _busy(store, _read(path))
    ended, lost, main = threading.Event(), threading.Event(), threading.main_thread().ident
    assert main

    def keep_signing() -> None:
        while not ended.wait(_SIGN_EVERY_S):
            # Without an answer nobody else can have got one.
            with suppress(StorageError):
                if not is_mine():
                    lost.set()
                    # As Ctrl-C does: it ends whatever the job waits for.
                    signal.pthread_kill(main, signal.SIGINT)
                    return
                sign()

    signer = threading.Thread(target=keep_signing, daemon=True)
    signer.start()
    try:
        with _interruptible():
            yield
    except BaseException:
        if lost.is_set():
            raise _busy(store, _read(path)) from None
        raise
    finally:
        ended.set()
        signer.join()
        with suppress(StorageError):
            if is_mine():
                path.unlink()


@contextmanager
def _interruptible() -> Iterator[None]:
    """A shell that starts a job in the background, as with nohup, has it ignore SIGINT."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _await_silence(store: RemotePath, path: RemotePath) -> None:
    signed, begin_s = _read(path), time.monotonic()
    while (now := _read(path)) and time.monotonic() - begin_s < _SILENT_S:
        if now != signed:
            raise _busy(store, now)
        time.sleep(_LOOK_EVERY_S)


def _read(path: RemotePath) -> str:
    """What is signed there; nothing where nobody holds it."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _busy(store: RemotePath, holder: str) -> StoreBusy:
    return StoreBusy(
        f"{store}: another job is filling it ({holder}); wait for it, or stop it and run this one again a minute later"
    )
