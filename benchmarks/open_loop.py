"""Load at a fixed rate of arrivals that does not wait for answers, and statistics of the answers.

A latency counts from the moment at which its request was due. So a server that stalls is charged for all requests that
are due meanwhile. A client that waits for each answer before it asks again would hide them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

REJECTED = (429, 503)
# A server keeps up with a rate while it answers this fraction of the requests, and 95 % of them within this many times
# the median latency at the lowest rate.
KEPT_UP, STRETCH = 0.99, 5.0


@dataclass(frozen=True)
class Outcome:
    """The result of one request.

    Attributes:
        due_s: when the request was due, in seconds since the load began.
        answered_s: when its answer came, in seconds since the load began.
        status: the answer's HTTP status; 0 for no answer.
    """

    due_s: float
    answered_s: float
    status: int


@dataclass(frozen=True)
class AtRate:
    """A server at one rate of arrivals.

    Attributes:
        rate: requests per second.
        requests: number of requests.
        p50_ms: median latency of the requests that were answered with 200; None where there are none.
        p95_ms: 95th percentile of these latencies.
        p99_ms: 99th percentile of these latencies.
        max_ms: the largest of these latencies.
        goodput: answers with 200 per second. Where the last answer comes after the end of the load, time runs until it.
        rejected: fraction of requests that were told to come again later.
        failed: fraction of requests with any other answer, or with none.
        memory_gib: memory of all the server's processes at the end; memory that they share is counted once.
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
    """Send requests when they are due, without waiting for answers; `send` returns a request's status."""
    begin_s = time.perf_counter()

    async def one(i: int) -> Outcome:
        await asyncio.sleep(begin_s + i / rate - time.perf_counter())
        status = await send(i)
        return Outcome(i / rate, time.perf_counter() - begin_s, status)

    return await asyncio.gather(*map(one, range(max(round(rate * seconds), 1))))


def summarise(rate: float, outcomes: Sequence[Outcome], memory_gib: float | None = None) -> AtRate:
    """Compute percentiles, goodput and fractions of some outcomes."""
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
    """The highest tried rate at which, and below which, a server keeps up; None where it never does."""
    ascending = sorted(measured, key=lambda at_rate: at_rate.rate)
    reached = None
    for at_rate in ascending:
        bound_ms = STRETCH * (ascending[0].p50_ms or 0.0)
        if 1 - at_rate.rejected - at_rate.failed < KEPT_UP or (at_rate.p95_ms or 0.0) > bound_ms:
            break
        reached = at_rate.rate
    return reached
