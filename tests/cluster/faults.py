"""A decoder that fails on songs that are named after a fault. It travels by name, and imports no torch either."""

import os
import signal
import time
from pathlib import Path

import pyarrow as pa

from lumina_ray.catalog.decode import decode_rows


def decode_with_faults(rows: pa.Table) -> pa.Table:
    """`decode_rows`, but `crash.wav` crashes the process, `hang.wav` hangs it in C, `bug.wav` raises."""
    for path in rows["path"].to_pylist():
        match Path(path).name:
            case "crash.wav":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang.wav":
                # Without a thread of Python that could be interrupted.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
                time.sleep(3600)
            case "bug.wav":
                raise RuntimeError("a bug")
            case "killed.wav":
                os.kill(os.getpid(), signal.SIGKILL)
    return decode_rows(rows)
