"""The filter that takes out what nobody hears, against SciPy's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt, sosfilt_zi

from lumina_ray.audio import highpass
from lumina_ray.audio.highpass import SECTION, STEADY, high_passed, steady_state
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


def test_its_numbers_are_those_of_a_butterworth_filter() -> None:
    section = butter(2, 20, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    assert section[0] == pytest.approx(SECTION, rel=1e-14)
    # They solve a linear system, in another order on another processor.
    assert sosfilt_zi(section)[0] == pytest.approx(STEADY, rel=1e-9)


@given(st.integers(0, 2**32), st.integers(1, 5000), st.floats(0, 1))
def test_it_gives_the_bits_of_scipy_also_in_two_blocks(seed: int, n: int, cut: float) -> None:
    samples = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    begin = steady_state(samples[0])
    heard, state = sosfilt(np.array([SECTION]), samples.astype(np.float64), zi=np.array([STEADY]) * samples[0])
    whole, after = high_passed(samples, begin)
    assert np.array_equal(whole, heard)
    assert np.array_equal(after, state)
    at = round(cut * n)
    first, between = high_passed(samples[:at], begin)
    second, last = high_passed(samples[at:], between)
    assert np.array_equal(np.concatenate([first, second]), heard)
    assert np.array_equal(last, state)
    assert np.array_equal(begin, steady_state(samples[0]))


def test_where_scipy_keeps_its_filter_elsewhere_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    expected = high_passed(samples, steady_state(samples[0]))
    monkeypatch.setattr(highpass, "_in_place", lambda: highpass._slow_to_import)
    for found, wanted in zip(high_passed(samples, steady_state(samples[0])), expected, strict=True):
        assert np.array_equal(found, wanted)
