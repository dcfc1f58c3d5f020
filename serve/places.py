"""How many requests a gateway takes at once, and how many may wait for that.

Ray Serve bounds both as well, but refuses with plain text: here a client is told what a machine can read.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request

from serve import metrics
from serve.problems import Problem
from serve.services import Caller, Served
from serve.turns import Room, Turns

POLL_S = 0.05


class Places:
    """Places of a gateway, given to keys in turns, and to the requests of one in the order of arrival."""

    def __init__(self, n: int, max_waiting: int) -> None:
        self._turns = Turns(n)
        self._asking = Room(max_waiting)
        self._waiting = self._taken = 0
        self._closed = False

    @asynccontextmanager
    async def take(self, deadline_s: float, key: str = "", whole_upload: bool = False) -> AsyncIterator[None]:
        """Hold a place; cancelled, as by a client that goes away, it is free at once.

        Args:
            deadline_s: how long to wait for one, by the event loop's clock.
            key: whose request it is, a `Caller`.
            whole_upload: of a request whose upload was taken in. It is refused neither for those that wait, as
                `Arrivals` bounds uploads, nor for being closed since.

        Raises:
            Problem: 429, too many wait already, of all keys or of this one, or none was free in time; 503, closed.
        """
        if not whole_upload:
            self._check_open()
            if self._turns.all_taken and not self._asking.has_room_for(key):
                raise _busy()
            self._asking.enter(key)
        self._count(waiting=1)
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._turns.take(key)
        except TimeoutError as error:
            raise _busy() from error
        finally:
            if not whole_upload:
                self._asking.leave(key)
            self._count(waiting=-1)
        self._count(taken=1)
        try:
            # Requests that waited.
            if not whole_upload:
                self._check_open()
            yield
        finally:
            self._turns.free(key)
            self._count(taken=-1)

    async def close(self) -> None:
        """Give no more places, and return once nobody holds one or waits for one."""
        self._closed = True
        while self._taken or self._waiting:
            await asyncio.sleep(POLL_S)

    def _check_open(self) -> None:
        if self._closed:
            raise Problem.retry_later(503, "server.unavailable", "The server is stopping; try again later.")

    def _count(self, waiting: int = 0, taken: int = 0) -> None:
        self._waiting += waiting
        self._taken += taken
        self.show()

    def show(self) -> None:
        """Say in the metrics how many there are."""
        metrics.show_places(self._taken, self._waiting)


def _busy() -> Problem:
    return Problem.retry_later(429, "server.busy", "All places are taken; try again later.")


async def _take_place(request: Request, services: Served, caller: Caller) -> AsyncIterator[float]:
    deadline_s = asyncio.get_running_loop().time() + services.args.request_timeout_s
    async with request.app.state.places.take(deadline_s, caller):
        yield deadline_s


# A place, for callers that were let in; its value is when their time is up, by the event loop's clock. It is free again
# before the answer is sent, which a client may be slow to read.
Place = Annotated[float, Depends(_take_place, scope="function")]
