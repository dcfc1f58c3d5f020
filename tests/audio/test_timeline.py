"""Holes in time: none in a whole file, however its clock goes, and each that is longer than a tenth of a second."""

from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.audio.timeline import Hole, Timeline

FRAMES = 1000


def hole_in(times_s: Iterable[float | None], frame_s: float) -> Hole | None:
    timeline = Timeline()
    for number, time_s in enumerate(times_s):
        timeline.add(time_s, number * frame_s)
    return timeline.hole()


def clock(frame_s: float, begin_s: float, drift: float, jitter_s: float, seed: int) -> np.ndarray:
    """When a recorder plays frames: its clock starts anywhere, and is neither exact nor regular."""
    rng = np.random.default_rng(seed)
    return begin_s + np.arange(FRAMES) * frame_s * (1 + drift) + rng.uniform(0, jitter_s, FRAMES)


CLOCKS = st.builds(
    clock,
    st.just(0.02),
    st.floats(-1e4, 1e6),
    st.floats(-0.005, 0.005),
    st.floats(0, 0.04),
    st.integers(0, 99),
)


@given(CLOCKS, st.integers(0, 500), st.integers(1, 20))
def test_no_clock_is_a_hole(times_s: np.ndarray, late: int, burst: int) -> None:
    assert hole_in(times_s, 0.02) is None
    # Packets that arrive late arrive together, and are timed when they do.
    times_s[late : late + burst] = times_s[late + burst]
    assert hole_in(times_s, 0.02) is None
    # A clock that is set back, and packets without a time.
    times_s[late:] -= 1000
    assert hole_in([None if number % 3 else time_s for number, time_s in enumerate(times_s)], 0.02) is None


@given(CLOCKS, st.integers(1, FRAMES - 1), st.floats(0.2, 3000))
def test_what_is_missing_is_found_where_it_is(times_s: np.ndarray, at: int, missing_s: float) -> None:
    times_s[at:] += missing_s
    hole = hole_in(times_s, 0.02)
    assert hole is not None
    assert abs(hole.at_s - at * 0.02) < 1e-6
    assert abs(hole.length_s - missing_s) < 0.1


def test_a_lost_frame_of_long_ones_is_a_hole_and_less_is_none() -> None:
    times_s = np.arange(20) * 0.5
    assert hole_in(times_s + 0.4 * (times_s > 3), 0.5) is None
    assert hole_in(times_s + 0.5 * (times_s > 3), 0.5) == Hole(3.5, 0.5)


def test_nothing_is_no_hole() -> None:
    assert hole_in([], 0.02) is None
    assert hole_in([7.0], 0.02) is None
    assert hole_in([None, None], 0.02) is None
