"""Load at a fixed rate of arrivals, whatever becomes of the answers, and what is to be said of them.

A latency counts from the moment at which its request was due: a server that stalls is charged for all that should have
arrived meanwhile, which a client that waits for answers before it asks again would hide.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

REJECTED = (429, 503)
# A server keeps up with a rate while it answers so many of its requests, and 95 % of them within so many times the
# median latency at the lowest rate.
KEPT_UP, STRETCH = 0.99, 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of a request: seconds since the load began, and the status; 0 for no answer at all."""

    due_s: float
    answered_s: float
    status: int


@dataclass(frozen=True)
class AtRate:
    """A server at one rate of arrivals.

    Attributes:
        rate: requests a second.
        p50_ms, p95_ms, p99_ms, max_ms: latencies of requests that were answered with 200, from when they were due;
            None where there are none.
        goodput: answers with 200 a second, until the last answer where that comes later than the end of the load.
        rejected: share of requests that were told to come back.
        failed: share of requests with any other answer, or with none.
        memory_gib: of all of the server's processes at the end; what they share is counted once.
    """

    rate: float
    requests: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    goodput: float
    rejected: float
    failed: float
    memory_gib: float | None = None


async def offer(send: Callable[[int], Awaitable[int]], rate: float, seconds: float) -> list[Outcome]:
    """Send requests when they are due, without waiting for answers; `send` gives a request's status."""
    begin_s = time.perf_counter()

    async def one(i: int) -> Outcome:
        await asyncio.sleep(begin_s + i / rate - time.perf_counter())
        status = await send(i)
        return Outcome(i / rate, time.perf_counter() - begin_s, status)

    return await asyncio.gather(*map(one, range(max(round(rate * seconds), 1))))


def summarise(rate: float, outcomes: Sequence[Outcome], memory_gib: float | None = None) -> AtRate:
    """Percentiles, goodput and shares of some outcomes."""
    good = [outcome for outcome in outcomes if outcome.status == 200]
    latencies_ms = [1000 * (outcome.answered_s - outcome.due_s) for outcome in good]
    p50, p95, p99, most = np.percentile(latencies_ms, [50, 95, 99, 100]).tolist() if good else [None] * 4
    elapsed_s = max(len(outcomes) / rate, *(outcome.answered_s for outcome in outcomes), 0.0)
    rejected = sum(outcome.status in REJECTED for outcome in outcomes)
    return AtRate(
        rate=rate,
        requests=len(outcomes),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=most,
        goodput=len(good) / elapsed_s,
        rejected=rejected / len(outcomes),
        failed=(len(outcomes) - len(good) - rejected) / len(outcomes),
        memory_gib=memory_gib,
    )


def knee(measured: Sequence[AtRate]) -> float | None:
    """The highest rate up to which a server keeps up at every rate that was tried; None where it never does."""
    ascending = sorted(measured, key=lambda at_rate: at_rate.rate)
    reached = None
    for at_rate in ascending:
        bound_ms = STRETCH * (ascending[0].p50_ms or 0.0)
        if 1 - at_rate.rejected - at_rate.failed < KEPT_UP or (at_rate.p95_ms or 0.0) > bound_ms:
            break
        reached = at_rate.rate
    return reached
