"""The chunk and tail rule, and the gate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.audio import SAMPLE_RATE_HZ, rms_dbfs, split_chunks
from lumina_ray.errors import AudioError


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=round(seconds * SAMPLE_RATE_HZ)) * level).astype(np.float32)


@pytest.mark.parametrize(
    ("seconds", "durations_s"),
    [
        (3.0, [3.0]),
        (10.0, [10.0]),
        (14.9, [10.0]),
        (15.0, [10.0, 5.0]),
        (25.5, [10.0, 10.0, 5.5]),
        (30.0, [10.0, 10.0, 10.0]),
        (30.01, [10.0, 10.0, 10.0]),
    ],
)
def test_chunks_have_their_true_length_and_short_tails_go(seconds: float, durations_s: list[float]) -> None:
    assert [chunk.duration_s for chunk in split_chunks(noise(seconds))] == pytest.approx(durations_s)


@settings(deadline=None, max_examples=25)
@given(st.floats(1.0, 60.0))
def test_chunks_are_consecutive_slices_of_the_song(seconds: float) -> None:
    samples = noise(seconds)
    for i, chunk in enumerate(split_chunks(samples)):
        assert chunk.start_s == 10.0 * i
        start = round(chunk.start_s * SAMPLE_RATE_HZ)
        assert np.array_equal(chunk.samples, samples[start : start + len(chunk.samples)])


def test_quiet_chunks_are_left_out_and_the_others_keep_their_place() -> None:
    samples = np.concatenate([noise(10), noise(10, level=0.001), noise(10)])
    assert [chunk.start_s for chunk in split_chunks(samples)] == [0.0, 20.0]


def test_level_of_a_full_scale_square_wave_is_0_dbfs_and_of_a_sine_3_less() -> None:
    square = np.tile(np.array([1, -1], np.float32), 1000)
    sine = np.sin(np.linspace(0, 200 * np.pi, 32_000, endpoint=False)).astype(np.float32)
    assert rms_dbfs(square) == pytest.approx(0.0)
    assert rms_dbfs(sine) == pytest.approx(-3.0103, abs=1e-4)


def test_silence_and_snippets_are_refused_with_the_reason() -> None:
    with pytest.raises(AudioError, match="silent") as silent:
        split_chunks(np.zeros(20 * SAMPLE_RATE_HZ, np.float32), "quiet.wav")
    assert silent.value.kind == "audio.silent"
    with pytest.raises(AudioError, match=r"0\.50 s") as short:
        split_chunks(noise(0.5), "blip.wav")
    assert short.value.kind == "audio.empty"
