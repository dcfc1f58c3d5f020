"""Descriptions of sound: cepstra against librosa, and each part by what it must not and must tell."""

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.evidence.sound import PARTS, onset, sound_parts, timbre, waver
from lumina_ray.evidence.spectra import N_BANDS


def levels(seed: int, T: int = 491) -> np.ndarray:
    return np.random.default_rng(seed).normal(-3, 0.5, size=(T, N_BANDS))


def test_timbre_by_librosa() -> None:
    """All frames are heard: their loudest bands lie close together."""
    of_bands = levels(0)
    cepstra_KT = librosa.feature.mfcc(S=of_bands.T, n_mfcc=40, dct_type=2, norm="ortho")
    found = timbre(of_bands)
    np.testing.assert_allclose(found[:39], cepstra_KT[1:].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found[39:79], cepstra_KT.std(axis=1), atol=1e-6)
    np.testing.assert_allclose(found[79:119], np.diff(cepstra_KT[:, ::2]).std(axis=1), atol=1e-6)


@given(st.integers(0, 1000), st.floats(-3, 3))
def test_no_part_knows_the_level(seed: int, gain: float) -> None:
    original, louder = (sound_parts(levels(seed, 501) + offset) for offset in (0, gain))
    for name in PARTS:
        np.testing.assert_allclose(louder[name], original[name], atol=1e-6)


@pytest.mark.parametrize(("rate_hz", "place"), [(0.7, 0), (3.0, 2), (5.0, 3), (12.0, 5)])
def test_waver_is_found_at_its_rate_and_in_its_bands(rate_hz: float, place: int) -> None:
    still = np.full((491, N_BANDS), -3.0)
    still[:, 20:25] += np.sin(2 * np.pi * rate_hz * np.arange(491) / 50)[:, None]
    found = waver(still).reshape(7, 16)
    assert np.unravel_index(found.argmax(), found.shape) == (place, 4)


def test_onset_follows_the_decay_of_notes() -> None:
    """Notes that lose 0.05 powers of ten a frame."""
    frames = np.arange(491)
    falling = np.repeat((-2 - 0.05 * (frames % 60))[:, None], N_BANDS, axis=1)
    found = onset(falling).reshape(8, 16)
    strikes = [n for n in frames[1:] if n % 60 == 0]
    assert len(strikes) == 8
    # 20 ms after the last quiet frame the note has begun; 24 frames later it is where 24 steps lead.
    np.testing.assert_allclose(found[-1] - found[0], -0.05 * 24, atol=0.35)
    assert (np.diff(found[:, 0]) < 0).all()


@pytest.mark.parametrize("value", [-8.0, 0.0])
def test_silence_and_constant_noise_give_finite_numbers(value: float) -> None:
    parts = sound_parts(np.full((501, N_BANDS), value))
    assert {name: len(numbers) for name, numbers in parts.items()} == PARTS
    assert all(np.isfinite(numbers).all() for numbers in parts.values())
