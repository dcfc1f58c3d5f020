"""Decoding in a child process: a file that crashes the decoder, or keeps it busy for ever, fails alone.

When a task of Ray dies, its whole block is lost and tried again. When a child of the task dies, one song fails, and it
is known which.
"""

import functools
import signal
from collections.abc import Callable

import pyarrow as pa

from lumina_ray.audio.guard import CallFailed, Guard
from lumina_ray.catalog.decode import undecoded_rows

Decode = Callable[[pa.Table], pa.Table]

# An hour of audio, the most that is decoded, takes about a minute; reading from a slow file system takes longer.
LIMIT_S = 600


def decode_guarded(rows: pa.Table, decode: Decode, limit_s: int = LIMIT_S) -> pa.Table:
    """`decode` rows one by one in a child process; a song that crashes or hangs it becomes a row with an error.

    Args:
        decode: `decode_rows`, or another function that the child can import.
        limit_s: seconds that each song may take.

    Returns:
        The rows that `decode` makes, one for each song.

    Raises:
        MemoryError: the child had no memory, or the system killed it; the song may be good.
        StorageError: a bucket or a file system does not answer; the song may be good.
    """
    return pa.concat_tables([_decode_song(rows.slice(i, 1), decode, limit_s) for i in range(len(rows))])


def _decode_song(row: pa.Table, decode: Decode, limit_s: int) -> pa.Table:
    try:
        return _guard().call(decode, row, limit_s=limit_s)
    except CallFailed as failed:
        if failed.signal == signal.SIGKILL:
            raise MemoryError("the process that decodes was killed, as by a machine that is short of memory") from None
        if failed.signal == signal.SIGALRM:
            reason = f"not decoded after {limit_s} s; see whether it can be read at all, and how fast"
            return undecoded_rows(row, "audio.timeout", reason)
        return undecoded_rows(row, "audio.crash", f"crashes the decoder ({failed}); re-encode it, for example as FLAC")


@functools.cache
def _guard() -> Guard:
    """The child of this process, started at the first call."""
    return Guard()
