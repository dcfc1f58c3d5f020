"""Numbers that the processes of a job report: to Prometheus through Ray, and to the job's own driver.

Ray exports them with the prefix `ray_`, counters with the suffix `_total`; cluster/grafana/lumina.json shows them.
"""

import functools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_list,
    _internal_kv_put,
    internal_kv_get_gcs_client,
)
from ray.util.metrics import Counter, Gauge

from lumina_ray.store.data_files import Tally

COUNTERS = {
    "lumina_decoded_songs": "Songs that were decoded, or could not be decoded.",
    "lumina_decode_seconds": "Time spent on decoding.",
    "lumina_songs": "Songs that workers computed, failed ones included.",
    "lumina_failures": "Songs that failed, by error code.",
    "lumina_audio_seconds": "Duration of the songs that are ok.",
    "lumina_busy_seconds": "Time that workers computed.",
    "lumina_wait_seconds": "Time that workers had nothing to compute, between two batches.",
}
GAUGES = {"lumina_songs_in_flight": "Songs that a worker is computing."}
_TAGS = {"lumina_failures": ("code",)}


@dataclass(frozen=True)
class Done:
    """Songs that are done.

    Attributes:
        songs: all of them, failed ones included.
        audio_s: duration of those that are ok.
    """

    songs: int = 0
    failed: int = 0
    audio_s: float = 0.0

    def __add__(self, other: "Done") -> "Done":
        return Done(self.songs + other.songs, self.failed + other.failed, self.audio_s + other.audio_s)

    def __sub__(self, other: "Done") -> "Done":
        return Done(self.songs - other.songs, self.failed - other.failed, self.audio_s - other.audio_s)


@dataclass(frozen=True)
class WorkerTimes:
    """The report of one worker.

    Attributes:
        load_s: seconds until it had its model.
        busy_s, wait_s: seconds of computing, and of not computing between two batches.
        songs: songs that it computed; `failed` of them failed, the others have `audio_s` seconds of audio.
        ended_s: end of its last batch by its node's clock, in seconds since the epoch; 0 before there was one.
    """

    load_s: float
    busy_s: float
    wait_s: float
    songs: int
    ended_s: float
    failed: int = 0
    audio_s: float = 0.0


@dataclass(frozen=True)
class Times:
    """The reports of a job's workers."""

    workers: tuple[WorkerTimes, ...] = ()

    @property
    def done(self) -> Done:
        """Songs that the workers computed. A song that is computed twice counts twice."""
        return sum((Done(worker.songs, worker.failed, worker.audio_s) for worker in self.workers), Done())

    @property
    def load_s(self) -> float:
        """Seconds until the slowest worker had its model."""
        return max((worker.load_s for worker in self.workers), default=0.0)

    @property
    def tail_s(self) -> float:
        """Seconds from the first worker's last batch to the last one's; not all workers were busy in between."""
        ended_s = [worker.ended_s for worker in self.workers if worker.ended_s]
        return max(ended_s) - min(ended_s) if ended_s else 0.0

    @property
    def songs_per_s(self) -> float:
        """Rate without start and tail: the sum of the workers' own rates."""
        active = [(worker.songs, worker.busy_s + worker.wait_s) for worker in self.workers]
        return sum(songs / active_s for songs, active_s in active if active_s)

    @property
    def wait_fraction(self) -> float | None:
        """Fraction of waiting in the time between first and last batches; None before there was a batch."""
        wait_s = sum(worker.wait_s for worker in self.workers)
        total_s = wait_s + sum(worker.busy_s for worker in self.workers)
        return wait_s / total_s if total_s else None


class WorkerReports:
    """The reports of a job's workers, read by its driver from Ray's key-value store, whatever node they are on.

    Attributes:
        job: name under which the workers report.
    """

    def __init__(self) -> None:
        self.job = f"lumina/{uuid.uuid4().hex}"
        self._before_pass = Done()

    def begin_pass(self, stored: Tally) -> None:
        """Count from here: what is stored is done, and what was computed but not stored will be computed again."""
        self._before_pass = Done(stored.songs, stored.failed, stored.audio_s) - self.read().done

    def done(self, times: Times) -> Done:
        """Songs that are stored or computed by the reports in `times`.

        A song that is computed twice, because its worker died before the song was stored, counts twice.
        """
        return self._before_pass + times.done

    def read(self) -> Times:
        """All reports so far: two requests, however many workers there are."""
        keys = _internal_kv_list(f"{self.job}/")
        values = internal_kv_get_gcs_client().internal_kv_multi_get(keys, None) if keys else {}
        return Times(tuple(WorkerTimes(**json.loads(value)) for value in values.values()))

    def take(self) -> Times:
        """All reports, which Ray then forgets."""
        times = self.read()
        _internal_kv_del(f"{self.job}/", del_by_prefix=True)
        return times


class WorkerMeter:
    """Times one worker, and reports to Prometheus and to the driver.

    All time between two batches is waiting: for decoding in the first place, but also for Ray, and for storage that
    takes rows more slowly. Time before the first batch is not counted, as no option changes it.
    """

    def __init__(self, job: str, load_s: float) -> None:
        """Report that the worker has its model.

        Args:
            job: see `WorkerReports`.
            load_s: seconds that the worker took to have its model.
        """
        self._key = f"{job}/{os.uname().nodename}/{os.getpid()}"
        self._times = WorkerTimes(load_s, 0.0, 0.0, 0, 0.0)
        self._idle_since_s: float | None = None
        self._report()

    @contextmanager
    def batch(self, n_songs: int) -> Iterator[None]:
        """Measure the computation of a batch, which is the block."""
        begin_s = time.monotonic()
        waited_s = begin_s - self._idle_since_s if self._idle_since_s is not None else 0.0
        _gauge("lumina_songs_in_flight").set(n_songs)
        try:
            yield
        finally:
            self._idle_since_s = time.monotonic()
            busy_s, before = self._idle_since_s - begin_s, self._times
            self._times = replace(
                before, busy_s=before.busy_s + busy_s, wait_s=before.wait_s + waited_s, ended_s=time.time()
            )
            _gauge("lumina_songs_in_flight").set(0)
            _count("lumina_busy_seconds", busy_s)
            _count("lumina_wait_seconds", waited_s)
            self._report()

    def add(self, rows: pa.Table) -> None:
        """Count rows that the worker made; they are reported at the end of the batch."""
        ok = pc.equal(rows["status"], "ok")
        audio_s = pc.sum(rows["duration_s"].filter(ok)).as_py() or 0.0
        codes = rows["error_code"].filter(pc.invert(ok)).to_pylist()
        before = self._times
        self._times = replace(
            before,
            songs=before.songs + len(rows),
            failed=before.failed + len(codes),
            audio_s=before.audio_s + audio_s,
        )
        _count("lumina_songs", len(rows))
        _count("lumina_audio_seconds", audio_s)
        for code in codes:
            _count("lumina_failures", 1, code=code)

    def _report(self) -> None:
        _internal_kv_put(self._key, json.dumps(asdict(self._times)), overwrite=True)


def measured(decode: Callable[[pa.Table], pa.Table]) -> Callable[[pa.Table], pa.Table]:
    """The function `decode`, with its songs and its time counted for Prometheus."""
    return functools.partial(_measure, decode=decode)


def _measure(rows: pa.Table, decode: Callable[[pa.Table], pa.Table]) -> pa.Table:
    begin_s = time.monotonic()
    decoded = decode(rows)
    _count("lumina_decode_seconds", time.monotonic() - begin_s)
    _count("lumina_decoded_songs", len(rows))
    return decoded


def _count(name: str, value: float, **tags: str) -> None:
    if value:
        _counter(name).inc(value, tags)


@functools.cache
def _counter(name: str) -> Counter:
    return Counter(name, COUNTERS[name], tag_keys=_TAGS.get(name, ()))


@functools.cache
def _gauge(name: str) -> Gauge:
    return Gauge(name, GAUGES[name])
