"""Metrics of the endpoint, for Prometheus through Ray, which adds the prefix `ray_`, and `_total` to counters.

cluster/grafana/lumina-serve.json shows it, beside what Ray counts itself: queues and batches of deployments, memory of
processes and GPUs.
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.serve.metrics import Counter, Gauge, Histogram

HISTOGRAMS = {
    "lumina_serve_waited_seconds": "What requests waited for, queues included: upload, decode, fingerprint, search, "
    "confirm.",
    "lumina_serve_worked_seconds": "What replicas worked on them: fingerprint, search, report, confirm.",
}
COUNTERS = {
    "lumina_serve_answers": "Answers by route, status and code of the problem; ok where there was none.",
    "lumina_serve_audio_seconds": "Duration of the uploads that were decoded.",
}
GAUGES = {
    "lumina_serve_index": "1 for the version of the index that a searcher answers from.",
    "lumina_serve_index_refused": "1 while the version that the config asks for cannot be served.",
    "lumina_serve_under_way": "Requests that have a place in a gateway.",
    "lumina_serve_waiting": "Requests that wait for one.",
}
# Ray declares tuples of one tag.
_TAGS: dict[str, Any] = {
    "lumina_serve_waited_seconds": ("stage",),
    "lumina_serve_worked_seconds": ("stage",),
    "lumina_serve_answers": ("route", "status", "code"),
    "lumina_serve_index": ("version",),
}
# From a search in a small index to the default time limit of a request.
_BOUNDARIES_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]


@contextmanager
def working_at(stage: str) -> Iterator[None]:
    """Around what a replica does for a request."""
    begin_s = time.perf_counter()
    try:
        yield
    finally:
        _histogram("lumina_serve_worked_seconds").observe(time.perf_counter() - begin_s, {"stage": stage})


def observe_waited(stage: str, seconds: float) -> None:
    _histogram("lumina_serve_waited_seconds").observe(seconds, {"stage": stage})


def count_answer(route: str, status: int, code: str) -> None:
    _counter("lumina_serve_answers").inc(1, {"route": route, "status": str(status), "code": code})


def count_audio(duration_s: float) -> None:
    if duration_s:
        _counter("lumina_serve_audio_seconds").inc(duration_s)


def show_index(version: str, refused: bool) -> None:
    """Say which version answers, and whether that is for want of another one; again and again, as gauges are forgotten.

    Ray leaves out a gauge that was not set for a while.
    """
    _gauge("lumina_serve_index").set(1, {"version": version})
    _gauge("lumina_serve_index_refused").set(refused)


def show_places(taken: int, waiting: int) -> None:
    _gauge("lumina_serve_under_way").set(taken)
    _gauge("lumina_serve_waiting").set(waiting)


@functools.cache
def _histogram(name: str) -> Histogram:
    return Histogram(name, HISTOGRAMS[name], _BOUNDARIES_S, _TAGS[name])


@functools.cache
def _counter(name: str) -> Counter:
    return Counter(name, COUNTERS[name], _TAGS.get(name, ()))


@functools.cache
def _gauge(name: str) -> Gauge:
    return Gauge(name, GAUGES[name], _TAGS.get(name, ()))
