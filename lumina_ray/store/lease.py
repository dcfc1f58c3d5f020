"""One job a store in a bucket, where there are no locks: the holder signs an object, again and again.

S3 accepts a signature only where nobody else has signed meanwhile, see `ConditionalSignature`: of any number of jobs
that begin in one instant, or take over from a dead one, exactly one gets the lease. Google's storage is not asked for
that: a job signs, looks a little later whether its name still stands there, and gives way if not. Two that begin within
the same moment exclude each other there as long as no write takes longer than that; what they would do to a store all
the same, `check_complete` finds.
"""

import itertools
import logging
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
from lumina_ray.store.signature import ConditionalSignature, PlainSignature, Signed, signature

_SIGN_EVERY_S = 10.0
# A holder that is silent for so long is dead, as after `kill -9`. Counted here and not from the object's time: clocks
# differ.
_SILENT_S = 60.0
_LOOK_EVERY_S = 1.0
# Only where the storage does not refuse a second signature.
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
    lock = signature(path)
    name = f"{socket.gethostname()}, process {os.getpid()}, {uuid4()}"
    mine = _take(store, lock, f"{name}, {next(numbers)}")
    ended, lost, main = threading.Event(), threading.Event(), threading.main_thread().ident
    assert main

    def sign_again() -> bool:
        nonlocal mine
        signed = lock.write(f"{name}, {next(numbers)}", mine)
        mine = signed or mine
        return signed is not None

    def keep_signing() -> None:
        while not ended.wait(_SIGN_EVERY_S):
            # Without an answer nobody else can have got one.
            with suppress(StorageError):
                if not sign_again():
                    lost.set()
                    # As Ctrl-C does: it ends whatever the job waits for.
                    signal.pthread_kill(main, signal.SIGINT)
                    return

    signer = threading.Thread(target=keep_signing, daemon=True)
    signer.start()
    try:
        with _interruptible():
            yield
    except BaseException:
        if lost.is_set():
            raise _busy(store, lock.read()) from None
        raise
    finally:
        ended.set()
        signer.join()
        with suppress(StorageError):
            # Signed once more, it is nobody else's for a minute.
            if not lost.is_set() and sign_again():
                path.unlink()


def _take(store: RemotePath, lock: PlainSignature | ConditionalSignature, text: str) -> Signed:
    """Sign in place of nobody, or of a holder that is dead.

    Raises:
        StoreBusy: another job lives, or was faster.
    """
    silent = _await_silence(store, lock)
    mine = lock.write(text, silent)
    if mine and isinstance(lock, PlainSignature):
        time.sleep(_SETTLED_S)
        mine = mine if lock.read() == mine else None
    if not mine:
        raise _busy(store, lock.read())
    if isinstance(lock, ConditionalSignature) and (ignored := lock.write(f"{text} again", None)):
        logging.getLogger(__name__).warning("%s: its storage ignores If-None-Match; start no second job on it", store)
        return ignored
    return mine


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


def _await_silence(store: RemotePath, lock: PlainSignature | ConditionalSignature) -> Signed | None:
    """The signature of a holder that is dead, or None where nobody holds the store.

    Raises:
        StoreBusy: its holder signed again.
    """
    signed, begin_s = lock.read(), time.monotonic()
    while now := lock.read():
        if now != signed:
            raise _busy(store, now)
        if time.monotonic() - begin_s >= _SILENT_S:
            break
        time.sleep(_LOOK_EVERY_S)
    return now


def _busy(store: RemotePath, holder: Signed | None) -> StoreBusy:
    who = holder.text if holder else "it has just ended"
    return StoreBusy(
        f"{store}: another job is filling it ({who}); wait for it, or stop it and run this one again a minute later"
    )
