"""A stopwatch for what is measured before a job."""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def timed(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[float, T]:
    """Seconds that a call took, and what it returned."""
    begin_s = time.perf_counter()
    made = work(*args, **kwargs)
    return time.perf_counter() - begin_s, made
