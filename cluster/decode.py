"""Decoding in a process of its own, as a file may crash the decoder or keep it busy for ever.

A task of Ray that dies costs the block that it was at, and the retries of it. A child of the task that dies costs one
song, and says which.

    python -m cluster.decode
"""

import functools
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable

import pyarrow as pa

from lumina_ray.catalog.decode import undecoded_rows
from lumina_ray.errors import StorageError

Decode = Callable[[pa.Table], pa.Table]

# An hour of audio, the most that is decoded, takes a minute or so; a file on a slow file system takes longer to read.
LIMIT_S = 600


def decode_guarded(rows: pa.Table, decode: Decode, limit_s: int = LIMIT_S) -> pa.Table:
    """`decode` rows one by one in a child process; a song that crashes or hangs it becomes a row with an error.

    Args:
        decode: `decode_rows`, or another function that the child can import.
        limit_s: for each song.

    Raises:
        MemoryError: the system killed the child, which says nothing of the song.
        StorageError: a bucket does not answer, which says nothing of it either.
    """
    return pa.concat_tables([_decode_song(rows.slice(i, 1), decode, limit_s) for i in range(len(rows))])


def _decode_song(row: pa.Table, decode: Decode, limit_s: int) -> pa.Table:
    child = _child()
    assert child.stdin
    assert child.stdout
    try:
        pickle.dump((decode, row, limit_s), child.stdin)
        child.stdin.flush()
        made: pa.Table | str | StorageError = pickle.load(child.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        _child.cache_clear()
        ended_by = -child.wait()
        if ended_by == signal.SIGKILL:
            raise MemoryError("the process that decodes was killed, as by a machine that is short of memory") from None
        if ended_by == signal.SIGALRM:
            reason = f"not decoded after {limit_s} s; see whether it can be read at all, and how fast"
            return undecoded_rows(row, "audio.timeout", reason)
        made = signal.Signals(ended_by).name if ended_by > 0 else f"exit code {-ended_by}"
    if isinstance(made, StorageError):
        raise made
    if isinstance(made, str):
        return undecoded_rows(row, "audio.crash", f"crashes the decoder ({made}); re-encode it, for example as FLAC")
    return made


@functools.cache
def _child() -> subprocess.Popen[bytes]:
    """This process' child, which ends with it: nothing is left to read then."""
    return subprocess.Popen(
        [sys.executable, "-m", "cluster.decode"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Songs have megabytes: by default they would come through in pieces of 64 KiB.
        pipesize=1 << 20,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def main() -> None:
    """Decode what comes on standard input, until it ends."""
    with open(0, "rb") as requests, open(os.dup(1), "wb") as answers:
        # A library that prints shall not write into an answer.
        os.dup2(2, 1)
        while requests.peek(1):
            decode, row, limit_s = pickle.load(requests)
            # Nobody handles it: it ends the process wherever that is, in C code too, and even without a parent.
            signal.alarm(limit_s)
            try:
                made = decode(row)
            except StorageError as error:
                made = error
            except Exception as error:
                made = f"{type(error).__name__}: {error}"
            signal.alarm(0)
            pickle.dump(made, answers)
            answers.flush()


if __name__ == "__main__":
    main()
