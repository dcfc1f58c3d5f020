"""What the processes of a job count: for Prometheus through Ray, and for the job's own summary.

Ray exports them with the prefix `ray_`, counters with the suffix `_total`; cluster/grafana/lumina.json shows them.
"""

import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import pyarrow as pa
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put
from ray.util.metrics import Counter, Gauge

COUNTERS = {
    "lumina_decoded_songs": "Songs that were decoded, or could not be.",
    "lumina_decode_seconds": "Time spent on decoding.",
    "lumina_songs": "Songs that workers made rows of.",
    "lumina_failures": "Those that failed, by error code.",
    "lumina_audio_seconds": "Duration of those that are ok.",
    "lumina_busy_seconds": "Time that workers computed.",
    "lumina_wait_seconds": "Time that workers had nothing to compute, between two batches.",
}
GAUGES = {"lumina_songs_in_flight": "Songs that a worker is computing."}
_TAGS = {"lumina_failures": ("code",)}


@dataclass(frozen=True)
class WorkerTimes:
    """What one worker did between its first batch and its last.

    Attributes:
        load_s: until it had its model.
        busy_s, wait_s: computing, and not computing between two batches.
        ended_s: when its last batch ended, by its node's clock: seconds since the epoch.
    """

    load_s: float
    busy_s: float
    wait_s: float
    songs: int
    ended_s: float


@dataclass(frozen=True)
class Times:
    """What the workers of a job did."""

    workers: tuple[WorkerTimes, ...] = ()

    @property
    def load_s(self) -> float:
        """Of the slowest worker."""
        return max((worker.load_s for worker in self.workers), default=0.0)

    @property
    def tail_s(self) -> float:
        """Between the first worker's last batch and the last one's: not all of them had something to do any more."""
        ended_s = [worker.ended_s for worker in self.workers]
        return max(ended_s) - min(ended_s) if ended_s else 0.0

    @property
    def songs_per_s(self) -> float:
        """Steady state, without start and tail: the sum of the workers' own rates."""
        active = [(worker.songs, worker.busy_s + worker.wait_s) for worker in self.workers]
        return sum(songs / active_s for songs, active_s in active if active_s)

    @property
    def wait_fraction(self) -> float | None:
        """Of the time between first and last batches; None before there was any."""
        wait_s = sum(worker.wait_s for worker in self.workers)
        total_s = wait_s + sum(worker.busy_s for worker in self.workers)
        return wait_s / total_s if total_s else None


class WorkerMeter:
    """Times one worker, and tells Prometheus and the driver.

    Waiting is whatever lies between two batches: decoding that is too slow most of all, but also Ray, and a storage to
    which rows cannot be written as fast. What comes before the first batch is not counted; no option changes that.
    """

    def __init__(self, job: str, load_s: float) -> None:
        """Args: the job's name, and how long the worker took to have its model."""
        self._key = f"{job}/{os.uname().nodename}/{os.getpid()}"
        self._times = WorkerTimes(load_s, 0.0, 0.0, 0, 0.0)
        self._idle_since_s: float | None = None

    @contextmanager
    def batch(self, n_songs: int) -> Iterator[None]:
        """Around the computation of a batch."""
        begin_s = time.monotonic()
        waited_s = begin_s - self._idle_since_s if self._idle_since_s is not None else 0.0
        _gauge("lumina_songs_in_flight").set(n_songs)
        try:
            yield
        finally:
            self._idle_since_s = time.monotonic()
            busy_s, before = self._idle_since_s - begin_s, self._times
            self._times = WorkerTimes(
                before.load_s, before.busy_s + busy_s, before.wait_s + waited_s, before.songs + n_songs, time.time()
            )
            _gauge("lumina_songs_in_flight").set(0)
            _count("lumina_busy_seconds", busy_s)
            _count("lumina_wait_seconds", waited_s)
            _internal_kv_put(self._key, json.dumps(asdict(self._times)), overwrite=True)


def count_rows(rows: pa.Table) -> None:
    """Count rows that a worker made."""
    _count("lumina_songs", len(rows))
    for row in rows.select(["error_code", "duration_s", "status"]).to_pylist():
        if row["status"] == "ok":
            _count("lumina_audio_seconds", row["duration_s"])
        else:
            _count("lumina_failures", 1, code=row["error_code"])


def measured(decode: Callable[[pa.Table], pa.Table]) -> Callable[[pa.Table], pa.Table]:
    """A function that decodes, and counts what it does."""
    return functools.partial(_measure, decode=decode)


def _measure(rows: pa.Table, decode: Callable[[pa.Table], pa.Table]) -> pa.Table:
    begin_s = time.monotonic()
    decoded = decode(rows)
    _count("lumina_decode_seconds", time.monotonic() - begin_s)
    _count("lumina_decoded_songs", len(rows))
    return decoded


def take_times(job: str) -> Times:
    """The times of all workers of a job, which are forgotten."""
    keys = _internal_kv_list(f"{job}/")
    times = [WorkerTimes(**json.loads(value)) for key in keys if (value := _internal_kv_get(key))]
    for key in keys:
        _internal_kv_del(key)
    return Times(tuple(times))


def _count(name: str, value: float, **tags: str) -> None:
    if value:
        _counter(name).inc(value, tags)


@functools.cache
def _counter(name: str) -> Counter:
    return Counter(name, COUNTERS[name], tag_keys=_TAGS.get(name, ()))


@functools.cache
def _gauge(name: str) -> Gauge:
    return Gauge(name, GAUGES[name])
