"""Decoders that fail. They travel by name to the process that decodes."""

import os
import signal
import time


def crash(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def be_killed(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(*_: object, **__: object) -> None:
    time.sleep(3600)


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("a bug that names /tmp/secret")
