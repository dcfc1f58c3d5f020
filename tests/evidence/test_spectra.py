"""Spectra and filters against librosa, and tones against their pitch."""

import librosa
import numpy as np
import pytest

from lumina_ray.evidence.spectra import (
    CHUNK_SAMPLES,
    LOWEST_PITCH,
    MEL_WINDOW,
    N_BANDS,
    PITCH_HOP,
    PITCH_WINDOW,
    mel_filters,
    mel_levels,
    padded,
    pitches,
    pitches_at,
    power_spectra,
)
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


def tone(pitch: float, seconds: float = 2.0) -> np.ndarray:
    hz = 440 * 2 ** ((pitch - 69) / 12)
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ)).astype(
        np.float32
    )


@pytest.mark.parametrize(("window", "hop"), [(2048, 640), (8192, 1600)])
def test_power_spectra_by_librosa(window: int, hop: int) -> None:
    samples = np.random.default_rng(0).normal(size=SAMPLE_RATE_HZ).astype(np.float32)
    theirs = np.abs(
        librosa.stft(samples, n_fft=window, hop_length=hop, window="hann", center=True, pad_mode="constant")
    )
    ours_TF = power_spectra(samples, window, hop)
    np.testing.assert_allclose(ours_TF, theirs.T**2, rtol=1e-3, atol=1e-2)


def test_mel_filters_by_librosa() -> None:
    theirs = librosa.filters.mel(
        sr=SAMPLE_RATE_HZ, n_fft=MEL_WINDOW, n_mels=N_BANDS, fmin=40, fmax=16_000, htk=True, norm=None
    )
    np.testing.assert_allclose(mel_filters().toarray(), theirs.T, atol=1e-5)


@pytest.mark.parametrize("pitch", range(45, 97, 4))
def test_a_tone_is_in_its_semitone(pitch: int) -> None:
    amplitudes_TJ = pitches(tone(pitch))
    assert set(amplitudes_TJ[2:-2].argmax(axis=1)) == {pitch - LOWEST_PITCH}


def test_levels_are_logarithms() -> None:
    quiet, loud = (mel_levels(gain * tone(60)) for gain in (0.1, 1.0))
    strongest = loud[10].argmax()
    assert loud[10, strongest] - quiet[10, strongest] == pytest.approx(2, abs=1e-3)


def test_a_short_chunk_ends_in_silence_and_a_long_one_is_refused() -> None:
    whole = padded(np.full(100, 16_384, np.int16))
    assert whole.shape == (CHUNK_SAMPLES,)
    assert (whole[:100] == 0.5).all()
    assert not whole[100:].any()
    with pytest.raises(ValueError, match="more than a chunk has"):
        padded(np.zeros(CHUNK_SAMPLES + 1, np.int16))


def test_tuning_is_taken_off() -> None:
    """A quarter tone too high is between two semitones at A = 440 Hz, and in the middle of one at its own tuning."""
    power_TF = power_spectra(tone(60.5), PITCH_WINDOW, PITCH_HOP)
    plain, tuned = pitches_at(power_TF, 0.0)[10], pitches_at(power_TF, 0.5)[10]
    assert tuned.argmax() == 60 - LOWEST_PITCH
    assert plain[60 - LOWEST_PITCH] == pytest.approx(plain[61 - LOWEST_PITCH], rel=0.2)
    assert tuned.max() > 1.8 * plain.max()
