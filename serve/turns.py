"""Places and room shared among keys: places are given in turns, and room is left for other keys.

Where access is open, everybody is one caller, without a key, who may have all of it.
"""

import asyncio
from collections import Counter, deque


class Turns:
    """Places. Each that comes free goes to the key that holds fewest of those that wait; equal ones take turns."""

    def __init__(self, n: int) -> None:
        self._free = n
        self._held: Counter[str] = Counter()
        # In the order of their turns: who gets a place goes to the end.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def all_taken(self) -> bool:
        return not self._free

    async def take(self, key: str) -> None:
        """Wait for a place of a key, behind those that wait with the same key. Cancelled, it takes none."""
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(given)
        self._give()
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._forget(key, given)
            else:
                # It was given just before.
                self.free(key)
            raise

    def free(self, key: str) -> None:
        """Give back a place that a key took."""
        self._free += 1
        _subtract(self._held, key)
        self._give()

    def _give(self) -> None:
        while self._free and self._waiting:
            key = min(self._waiting, key=lambda waiting: self._held[waiting])
            queue = self._waiting.pop(key)
            given = queue.popleft()
            if queue:
                self._waiting[key] = queue
            if not given.done():
                self._free -= 1
                self._held[key] += 1
                given.set_result(None)

    def _forget(self, key: str, given: asyncio.Future[None]) -> None:
        queue = self._waiting.get(key, deque())
        if given in queue:
            queue.remove(given)
            if not queue:
                del self._waiting[key]


class Room:
    """Room for a number of things, of which a key gets more only while it has less than is left.

    One key alone gets half of it. As things leave, n keys that want ever more come to have an (n + 1)th each, and as
    much is left for a key that has nothing yet.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_key: Counter[str] = Counter()

    def of(self, key: str) -> int:
        """Count the things of a key."""
        return self._by_key[key]

    @property
    def left(self) -> int:
        return self._most - self._by_key.total()

    def has_room_for(self, key: str) -> bool:
        return self.left > (self._by_key[key] if key else 0)

    def enter(self, key: str) -> None:
        self._by_key[key] += 1

    def leave(self, key: str) -> None:
        _subtract(self._by_key, key)

    @property
    def empty(self) -> bool:
        return not self._by_key


def _subtract(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    # Keys come and go.
    if not counts[key]:
        del counts[key]
