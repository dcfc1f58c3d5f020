"""The level of audio, its pauses, and the gain that brings it to the common level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, lfilter

from lumina_ray.audio.level import LEVEL_DBFS, frame_powers, frames_of, level_dbfs, level_gain
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

SECOND = SAMPLE_RATE_HZ


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=round(seconds * SECOND)) * level).astype(np.float32)


def sine(hz: float, seconds: float = 4.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * SECOND)) / SECOND).astype(np.float32)


def test_a_full_scale_square_wave_has_0_dbfs_and_a_sine_3_less() -> None:
    square = np.tile(np.repeat(np.array([1, -1], np.float32), 16), 4 * SECOND // 32)
    assert level_dbfs(frame_powers(square)) == pytest.approx(0.0, abs=0.01)
    assert level_dbfs(frame_powers(sine(1000))) == pytest.approx(-3.0103, abs=0.01)


@pytest.mark.parametrize("n", [640, 641, 32_000, 700_001])
def test_powers_of_frames_are_mean_squares_also_across_blocks(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(n / SECOND)[:n]
    whole = frame_powers(samples)
    assert len(whole) == frames_of(n)
    # The filter in its other form, on the whole.
    heard = lfilter(*butter(2, 20, "highpass", fs=SECOND), samples.astype(np.float64) - samples[0])
    expected = [np.mean(heard[i : i + 640] ** 2) for i in range(0, n, 640)]
    assert whole == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr("lumina_ray.audio.level._BLOCK_FRAMES", 3)
    assert np.array_equal(frame_powers(samples), whole)


def test_pauses_do_not_change_the_level() -> None:
    music = noise(5)
    with_pauses = np.concatenate([music[:SECOND], np.zeros(40 * SECOND, np.float32), music[SECOND:]])
    assert level_dbfs(frame_powers(with_pauses)) == pytest.approx(level_dbfs(frame_powers(music)), abs=0.05)


def test_what_nobody_hears_has_no_level() -> None:
    audible = level_dbfs(frame_powers(noise(5)))
    assert level_dbfs(frame_powers(noise(5) + np.float32(0.5))) == pytest.approx(audible, abs=0.1)
    assert level_dbfs(frame_powers(0.9 * sine(1))) < -50
    assert level_dbfs(frame_powers(np.zeros(SECOND, np.float32))) == -np.inf


@settings(max_examples=10)
@given(st.floats(-60, 90), st.floats(0.1, 1))
def test_any_gain_is_undone(gain_db: float, fraction_loud: float) -> None:
    music = noise(1)
    music[round(fraction_loud * len(music)) :] *= np.float32(0.03)
    louder = (music * np.float32(10 ** (gain_db / 20))).astype(np.float32)
    here, there = (x * level_gain(x, frame_powers(x)) for x in (music, louder))
    assert np.abs(here).max() <= 1.000001
    assert there == pytest.approx(here, rel=1e-4, abs=1e-6)


def test_the_common_level_is_reached_unless_full_scale_forbids_it() -> None:
    quiet, loud = noise(5, 0.001), noise(5, 0.3)
    for samples in (quiet, loud):
        levelled = samples * np.float32(level_gain(samples, frame_powers(samples)))
        assert level_dbfs(frame_powers(levelled)) == pytest.approx(LEVEL_DBFS, abs=0.01)
    sparse = quiet.copy()
    sparse[::SECOND] = 1.0
    assert level_gain(sparse, frame_powers(sparse)) == 1.0


@settings(max_examples=20)
@given(st.integers(1, 3), st.floats(0.2, 1), st.integers(1, 5 * SECOND - 4))
def test_a_few_clicks_take_no_room_from_the_level(n_samples: int, height: float, where: int) -> None:
    quiet = noise(5, 0.005)
    clicked = quiet.copy()
    clicked[where : where + n_samples] = height
    gains = [level_gain(x, frame_powers(x)) for x in (quiet, clicked)]
    assert gains[1] == pytest.approx(gains[0], rel=0.05)


def test_a_stroke_above_all_others_is_no_click() -> None:
    music = noise(5, 0.02)
    music[1000:1200] *= 3
    assert np.abs(music * level_gain(music, frame_powers(music))).max() <= 1.000001
