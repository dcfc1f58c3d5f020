"""Who may ask, and how often."""

import logging
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from lumina_ray.errors import UsageError
from serve.keys import ApiKey, KeyRing
from serve.problems import Problem

logger = logging.getLogger("ray.serve")


class Access:
    """Admits requests by their key."""

    def __init__(self, keys: KeyRing, gateways: int) -> None:
        """Args: the keys, and how many gateways share the requests: each allows its part of a key's rate."""
        self._keys = keys
        self._gateways = gateways
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def admit(self, key: str | None) -> ApiKey:
        """Look up a key, and count its use.

        Raises:
            Problem: 401 no key or an unknown one, 429 it was used too often, 503 the keys cannot be read.
        """
        if key is None:
            raise _unauthorized("Send an API key, which the operator gives: `Authorization: Bearer KEY`.", "Bearer")
        try:
            holder = self._keys.holder(key)
        except UsageError as error:
            logger.error("nobody is admitted: %s", error)
            raise Problem.retry_later(503, "server.unavailable", "API keys cannot be checked now.") from error
        if holder is None:
            raise _unauthorized("This API key is unknown or revoked.", 'Bearer error="invalid_token"')
        if holder.per_minute is not None:
            self._count(holder, holder.per_minute)
        return holder

    def _count(self, holder: ApiKey, per_minute: int) -> None:
        rate = RateLimitItemPerMinute(max(1, per_minute // self._gateways))
        if not self._limiter.hit(rate, holder.sha256):
            free_at_s, _ = self._limiter.get_window_stats(rate, holder.sha256)
            raise Problem(
                429,
                "access.rate",
                f"This key may send {per_minute} requests a minute; wait.",
                {"Retry-After": str(max(1, math.ceil(free_at_s - time.time())))},
            )


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "access.denied", detail, {"WWW-Authenticate": challenge})
