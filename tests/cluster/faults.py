"""A decoder that fails on songs that are named after a fault. It travels by name, and imports no torch either."""

import errno
import os
import signal
import time
from pathlib import Path
from unittest import mock

import pyarrow as pa

from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.scan import AudioHeader, read_header


def decode_with_faults(rows: pa.Table) -> pa.Table:
    """`decode_rows`, but `crash.wav` crashes the process, `hang.wav` hangs it in C, `bug.wav` raises.

    `killed.wav` is killed, `huge.wav` finds no memory, and `stale.wav` is on a file system that does not answer.
    """
    for path in rows["path"].to_pylist():
        crash_or_hang(Path(path))
        match Path(path).name:
            case "bug.wav":
                raise RuntimeError("a bug")
            case "killed.wav":
                os.kill(os.getpid(), signal.SIGKILL)
            case "huge.wav":
                raise MemoryError
            case "stale.wav":
                with mock.patch("hashlib.file_digest", side_effect=OSError(errno.ESTALE, os.strerror(errno.ESTALE))):
                    return decode_rows(rows)
    return decode_rows(rows)


def header_with_faults(path: Path) -> AudioHeader:
    """`read_header`, but `crash.wav` crashes the process and `hang.wav` hangs it in C."""
    crash_or_hang(path)
    return read_header(path)


def crash_or_hang(path: Path) -> None:
    match path.name:
        case "crash.wav":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang.wav":
            # Without a thread of Python that could be interrupted.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            time.sleep(3600)
