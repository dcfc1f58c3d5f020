"""Statistics of a load by numbers worked out by hand, and the schedule against a server that stalls."""

import asyncio
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from benchmarks.open_loop import AtRate, Outcome, knee, offer, summarise
from benchmarks.processes import proportional_gib


def test_latencies_count_from_when_requests_were_due() -> None:
    """Make 100 requests at 10 per second: 90 answers after 1 to 90 ms, 6 refusals, 4 without an answer."""
    outcomes = [Outcome(i / 10, i / 10 + (i + 1) / 1000, 200) for i in range(90)]
    outcomes += [
        Outcome(9 + i / 10, 9.5, status) for i, status in enumerate((429, 429, 503, 503, 429, 429, 0, 0, 500, 504))
    ]
    at_rate = summarise(10.0, outcomes, memory_gib=1.5)
    assert (at_rate.rate, at_rate.requests, at_rate.memory_gib) == (10.0, 100, 1.5)
    assert at_rate.p50_ms == pytest.approx(45.5)
    assert at_rate.p95_ms == pytest.approx(1 + 0.95 * 89)
    assert at_rate.p99_ms == pytest.approx(1 + 0.99 * 89)
    assert at_rate.max_ms == pytest.approx(90)
    assert at_rate.goodput == pytest.approx(9.0)
    assert (at_rate.rejected, at_rate.failed) == (0.06, 0.04)


def test_answers_that_come_late_lower_the_goodput() -> None:
    """The last of 20 requests in 2 s is answered after 8 s."""
    outcomes = [Outcome(i / 10, (i + 1) * 0.4, 200) for i in range(20)]
    assert summarise(10.0, outcomes).goodput == pytest.approx(20 / 8)


def test_nothing_but_refusals() -> None:
    at_rate = summarise(5.0, [Outcome(0.0, 0.1, 429)] * 5)
    assert (at_rate.p50_ms, at_rate.goodput, at_rate.rejected, at_rate.failed) == (None, 0.0, 1.0, 0.0)
    assert knee([at_rate]) is None


def test_the_knee_is_the_last_rate_before_the_first_that_is_too_much() -> None:
    one = AtRate(1.0, 100, 10.0, 12.0, 15.0, 18.0, goodput=1.0, rejected=0.0, failed=0.0)
    two, three, four = (replace(one, rate=rate) for rate in (2.0, 3.0, 4.0))
    assert knee([one, two, three, four]) == 4.0
    assert knee([four, one, three, two]) == 4.0
    assert knee([one, two, replace(three, p95_ms=50.0), four]) == 4.0
    assert knee([one, two, replace(three, p95_ms=50.1), four]) == 2.0
    assert knee([one, replace(two, rejected=0.01), replace(three, rejected=0.006, failed=0.006), four]) == 2.0
    assert knee([replace(one, failed=0.02), two]) is None


def test_a_stall_is_charged_to_everything_that_was_due_meanwhile() -> None:
    """A server does nothing for half a second. A client that waits for answers would see only one slow answer."""

    async def ask() -> list[Outcome]:
        up = time.perf_counter() + 0.5

        async def answer(_: int) -> int:
            await asyncio.sleep(up - time.perf_counter())
            return 200

        return await offer(answer, rate=100.0, seconds=1.0)

    outcomes = asyncio.run(ask())
    assert [outcome.due_s for outcome in outcomes] == pytest.approx([i / 100 for i in range(100)])
    late = [outcome.answered_s - outcome.due_s for outcome in outcomes]
    assert late[:40] == pytest.approx([0.5 - i / 100 for i in range(40)], abs=0.2)
    assert sum(s > 0.1 for s in late) >= 35


def test_memory_is_of_a_process_and_what_it_started() -> None:
    child = "x = b'1' * (64 << 20); print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert 64 / 1024 < proportional_gib(process.pid) < 0.5
        assert proportional_gib(process.pid, without={process.pid}) < proportional_gib(process.pid)
        process.communicate(b"\n")
