"""Uploads on their way in: how many a gateway takes at once, of each key and of all, and how slow they may be.

A place of the gateway is taken only once an upload is whole: who sends slowly keeps nobody else waiting.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from serve.places import POLL_S, Places
from serve.problems import Problem
from serve.requestlog import waiting_for
from serve.schemas import ServeArgs
from serve.services import Caller, Served
from serve.turns import Room


class Arrivals:
    """Counts the uploads of a gateway, each from its first byte to its answer."""

    def __init__(self, most: int, most_of_key: int) -> None:
        self._room = Room(most)
        self._most_of_key = most_of_key
        self._closed = False

    @contextmanager
    def let_in(self, key: str) -> Iterator[None]:
        """Count an upload of a key for the duration of a block.

        Raises:
            Problem: 429, the key has as many as it may, or the gateway has, or the others need what is left; 503,
                closed.
        """
        if self._closed:
            raise Problem.retry_later(503, "server.unavailable", "The server is stopping; try again later.")
        if not self._room.left:
            raise Problem.retry_later(429, "server.busy", "Too many uploads at once; try again later.")
        if self._room.of(key) >= self._most_of_key:
            raise Problem.retry_later(
                429, "access.uploads", f"This key may send {self._most_of_key} uploads at once; wait until one is done."
            )
        if not self._room.has_room_for(key):
            raise Problem.retry_later(
                429, "access.uploads", "The room that is left is for other keys; wait until an upload of yours is done."
            )
        self._room.enter(key)
        try:
            yield
        finally:
            self._room.leave(key)

    async def close(self) -> None:
        """Let in no more uploads, and return once those that had begun are answered."""
        self._closed = True
        while not self._room.empty:
            await asyncio.sleep(POLL_S)


@dataclass(frozen=True)
class Arrival:
    """A request that was let in, and whose body is still to come.

    Attributes:
        caller: whose it is.
        deadline_s: when its time is up, by the event loop's clock.
    """

    request: Request
    args: ServeArgs
    places: Places
    caller: Caller
    deadline_s: float

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Around what reads the body. Raises: Problem: 408, it did not come before the request's time was up."""
        limit_s = self.args.request_timeout_s
        try:
            with waiting_for("upload"):
                async with asyncio.timeout_at(self.deadline_s):
                    yield
        except TimeoutError as error:
            raise Problem(408, "request.timeout", f"The upload did not arrive within {limit_s:g} s.") from error

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Raises:
            Problem: 408, nothing of it came for a while, or it comes too slowly.
            ClientDisconnect: the client went away.
        """
        idle_s, rate = self.args.upload_idle_s, self.args.min_upload_bytes_per_s
        now_s = asyncio.get_running_loop().time
        body = self.request.stream()
        received, waited_s = 0, 0.0
        while True:
            # What counts is how long the client keeps us waiting, and not how long our own disk does.
            patience_s = min(idle_s, idle_s + received / rate - waited_s)
            begin_s = now_s()
            try:
                async with asyncio.timeout(patience_s):
                    block = await anext(body, None)
            except TimeoutError as error:
                raise Problem(
                    408,
                    "request.timeout",
                    f"The upload stalled: after {received} bytes nothing came for {idle_s:g} s, or less than {rate} "
                    "bytes a second. Send it again over a faster connection.",
                ) from error
            waited_s += now_s() - begin_s
            if block is None:
                return
            received += len(block)
            yield block

    def place(self) -> AbstractAsyncContextManager[None]:
        """A place for the request, whose body is whole by now. Raises: Problem: 429, none was free in time."""
        return self.places.take(self.deadline_s, self.caller, whole_upload=True)


async def _arrive(request: Request, services: Served, caller: Caller) -> AsyncIterator[Arrival]:
    deadline_s = asyncio.get_running_loop().time() + services.args.request_timeout_s
    state = request.app.state
    with state.arrivals.let_in(caller):
        yield Arrival(request, services.args, state.places, caller, deadline_s)


# An upload of a caller that was let in. It ends before the answer is sent, which a client may be slow to read.
Arriving = Annotated[Arrival, Depends(_arrive, scope="function")]
