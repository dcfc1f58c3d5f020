"""Power spectra of a chunk, and what falls into bands of pitch and of the mel scale.

All products are with sparse matrices, which scipy multiplies in one thread and one order: equal samples give equal bits
on equal machines.

Shape legend: T = frames, F = frequencies, J = semitones, B = mel bands.
"""

from functools import cache

import numpy as np
from scipy.fft import rfft
from scipy.sparse import csr_array

from lumina_ray.vocabulary import SAMPLE_RATE_HZ

CHUNK_SAMPLES = 10 * SAMPLE_RATE_HZ
PITCH_WINDOW, PITCH_HOP = 8192, 1600
"""Samples of a frame and between frames for pitch: 256 ms tell semitones apart, 20 frames a second."""
MEL_WINDOW, MEL_HOP = 2048, 640
"""Window and step for timbre: 64 ms, 50 frames a second."""
LOWEST_PITCH, N_PITCHES = 28, 72
"""MIDI numbers 28 (41 Hz) to 99 (2.5 kHz)."""
N_BANDS = 80
_LOWEST_HZ, _HIGHEST_HZ = 40.0, 16_000.0
_REFERENCE_PITCH, _REFERENCE_HZ = 69, 440.0
_HALF_WIDTH = 0.6
"""Semitones from a pitch at which its filter has fallen to zero."""
_FULL_SCALE = np.float32(1 / 32_768)


def padded(samples: np.ndarray) -> np.ndarray:
    """Bring a chunk to the length of a full one with silence: float32 `[320 000]`, full scale 1.

    Args:
        samples: int16 `[n]`, mono, 32 kHz, n ≤ 320 000.

    Raises:
        ValueError: more samples than a chunk has.
    """
    if len(samples) > CHUNK_SAMPLES:
        raise ValueError(f"{len(samples)} samples are more than a chunk has ({CHUNK_SAMPLES})")
    out = np.zeros(CHUNK_SAMPLES, np.float32)
    out[: len(samples)] = samples * _FULL_SCALE
    return out


def power_spectra(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Compute power spectra of frames under a Hann window, centred on every `hop`-th sample: float32 `[T, F]`.

    Args:
        samples: float32 `[n]`; silence is assumed on either side.
        window: samples of a frame, even.
        hop: samples from one frame to the next.

    Returns:
        T = n // hop + 1 rows of F = window / 2 + 1 numbers.
    """
    around = np.pad(samples, window // 2)
    frames_TW = np.lib.stride_tricks.sliding_window_view(around, window)[::hop]
    spectra_TF = rfft(frames_TW * _hann(window), axis=1)
    return spectra_TF.real**2 + spectra_TF.imag**2


def pitches(samples: np.ndarray) -> np.ndarray:
    """Compute the amplitude of each semitone in each frame, float32 `[T, J]`.

    Args:
        samples: float32 `[n]`, full scale 1.
    """
    return pitches_at(power_spectra(samples, PITCH_WINDOW, PITCH_HOP), 0.0)


def pitches_at(power_TF: np.ndarray, tuning: float) -> np.ndarray:
    """Compute the amplitude of each semitone from power spectra, float32 `[T, J]`.

    Args:
        power_TF: with `PITCH_WINDOW` and `PITCH_HOP`.
        tuning: by how much all pitches lie above A = 440 Hz, in semitones.
    """
    return np.sqrt(power_TF @ pitch_filters(tuning))


def mel_levels(samples: np.ndarray) -> np.ndarray:
    """Compute the common logarithm of the power in each mel band and frame, float32 `[T, B]`.

    Args:
        samples: float32 `[n]`, full scale 1.
    """
    return np.log10(power_spectra(samples, MEL_WINDOW, MEL_HOP) @ mel_filters() + np.float32(1e-8))


@cache
def pitch_filters(tuning: float = 0.0) -> csr_array:
    """Weights of frequencies in semitones, float32 `[F, J]`: triangles around equal-tempered pitches, A = 440 Hz.

    Args:
        tuning: see `pitches_at`.
    """
    hz_F = np.arange(PITCH_WINDOW // 2 + 1) * SAMPLE_RATE_HZ / PITCH_WINDOW
    pitch_F = np.full(len(hz_F), -np.inf)
    pitch_F[1:] = _REFERENCE_PITCH - tuning + 12 * np.log2(hz_F[1:] / _REFERENCE_HZ)
    distance_FJ = np.abs(pitch_F[:, None] - np.arange(LOWEST_PITCH, LOWEST_PITCH + N_PITCHES))
    return csr_array(np.maximum(0, 1 - distance_FJ / _HALF_WIDTH).astype(np.float32))


@cache
def mel_filters() -> csr_array:
    """Weights of frequencies in mel bands, float32 `[F, B]`: overlapping triangles (O'Shaughnessy 1987), peaks at 1."""
    hz_F = np.arange(MEL_WINDOW // 2 + 1) * SAMPLE_RATE_HZ / MEL_WINDOW
    lowest, highest = (2595 * np.log10(1 + hz / 700) for hz in (_LOWEST_HZ, _HIGHEST_HZ))
    edges = 700 * (10 ** (np.linspace(lowest, highest, N_BANDS + 2) / 2595) - 1)
    rising_FB = (hz_F[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling_FB = (edges[2:] - hz_F[:, None]) / (edges[2:] - edges[1:-1])
    return csr_array(np.maximum(0, np.minimum(rising_FB, falling_FB)).astype(np.float32))


@cache
def _hann(window: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)
