"""Decoding uploads outside the event loop, in processes that may crash and be killed."""

import asyncio
import functools
import logging
import signal

from lumina_ray.audio import ChunkedAudio, load_chunks
from lumina_ray.audio.guard import CallFailed, Guard
from serve.problems import Problem

logger = logging.getLogger("ray.serve")


class Decoders:
    """A few processes; an upload waits until one of them is free."""

    def __init__(self, n: int, limit_s: float) -> None:
        """Args: how many, and for how long each may work at one upload."""
        self._limit_s = limit_s
        self._idle: asyncio.Queue[Guard] = asyncio.LifoQueue()
        for _ in range(n):
            self._idle.put_nowait(Guard())

    async def load(self, body: bytes, max_duration_s: float, max_bytes: int) -> ChunkedAudio:
        """Decode an upload and cut it into chunks.

        Cancelled, as by a client that goes away, it kills the process and frees the slot at once.

        Raises:
            AudioError: it cannot be used.
            Problem: 422 it crashes the decoder or keeps it busy, 500 a bug of ours, 503 the system killed the decoder.
        """
        decode = functools.partial(load_chunks, name="upload", max_duration_s=max_duration_s, max_bytes=max_bytes)
        guard = await self._idle.get()
        try:
            # The process is looked up now: a thread that begins late must not use the process of the next upload.
            return await asyncio.to_thread(guard.call, decode, body, limit_s=self._limit_s, process=guard.process)
        except asyncio.CancelledError:
            guard.end()
            raise
        except CallFailed as failed:
            logger.warning("an upload of %d bytes ended its decoder: %s", len(body), failed)
            raise self._problem(failed) from failed
        finally:
            self._idle.put_nowait(guard)

    def _problem(self, failed: CallFailed) -> Problem:
        if failed.raised:
            return Problem.internal()
        if failed.signal == signal.SIGKILL:
            return Problem.retry_later(503, "server.unavailable", "A worker was lost; try again.")
        if failed.signal == signal.SIGALRM:
            return Problem(422, "audio.timeout", f"upload: not decoded after {self._limit_s:g} s; re-encode it.")
        return Problem(422, "audio.crash", "upload: crashes the decoder; re-encode it, for example as FLAC.")
