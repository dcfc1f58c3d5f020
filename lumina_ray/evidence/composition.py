"""Notes of a chunk, whatever key they are in: harmony over time, progressions, rhythm.

Each part is the magnitude of a Fourier transform around the circle of pitch classes or along time, which a shift leaves
as it is: a transposition is a shift of pitch classes. (Bertin-Mahieux & Ellis 2012, "Large-Scale Cover Song Recognition
Using the 2D Fourier Transform Magnitude", ISMIR.)

Shape legend: T = frames (20 a second), J = semitones.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

from lumina_ray.evidence.spectra import LOWEST_PITCH, PITCH_HOP
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

PITCH_CLASSES = 12
_ROTATIONS = PITCH_CLASSES // 2 + 1
"""Magnitudes around the circle that are not mirror images of others."""
_HARMONY_TIMES = 20
PROGRESSION_FRAMES = 8
"""Frames between the two ends of a progression: 0.4 s."""
_FLOOR = 1e-3
_RHYTHM_HZ, _RHYTHM_BINS, _RHYTHM_POINTS, _RHYTHM_FFT = (0.4, 8.0), 48, 5, 1024
_LOUDNESS = 1000.0

PARTS = {
    "harmony": _HARMONY_TIMES * _ROTATIONS,
    "progressions": PITCH_CLASSES * _ROTATIONS,
    "rhythm": _RHYTHM_BINS,
}
"""All parts by name, and how many numbers each has."""


def composition_parts(pitches_TJ: np.ndarray, speed: float = 1.0) -> dict[str, np.ndarray]:
    """Describe the notes of a chunk in each of `PARTS`, float64.

    Args:
        pitches_TJ: amplitudes of semitones, float32, from `lumina_ray.evidence.spectra.pitches`.
        speed: how many times faster than a song the chunk may be; it is described as the song would be.
    """
    chroma_TP = pitch_classes(pitches_TJ)
    return {
        "harmony": harmony(chroma_TP, speed),
        "progressions": progressions(chroma_TP, speed),
        "rhythm": rhythm(pitches_TJ, speed),
    }


def pitch_classes(pitches_TJ: np.ndarray) -> np.ndarray:
    """Add up the square roots of amplitudes by pitch class (C first), float64 `[T, 12]`.

    The root keeps loud notes and instruments with strong overtones from drowning the others.
    """
    roots_TJ = np.sqrt(pitches_TJ.astype(np.float64))
    out_TP = np.zeros((len(roots_TJ), PITCH_CLASSES))
    for j in range(roots_TJ.shape[1]):
        out_TP[:, (LOWEST_PITCH + j) % PITCH_CLASSES] += roots_TJ[:, j]
    return out_TP


def harmony(chroma_TP: np.ndarray, speed: float = 1.0) -> np.ndarray:
    """Take the root of the magnitude of the 2D Fourier transform of pitch classes over time, float64 `[140]`.

    The slowest 20 frequencies in time, up to 2 Hz, and all around the circle of pitch classes. A shift along either
    axis changes nothing. Of a chunk at another speed, frequencies so many times as high are taken.
    """
    around_TR = np.fft.rfft(chroma_TP - chroma_TP.mean(), axis=1)
    magnitude = np.abs(np.einsum("ft,tr->fr", _waves(len(chroma_TP), speed), around_TR))
    return np.sqrt(magnitude).ravel()


def progressions(chroma_TP: np.ndarray, speed: float = 1.0) -> np.ndarray:
    """Describe which intervals pitch classes move by within 0.4 s, and on what degrees they do, in any key: `[84]`.

    Products of each frame's pitch classes with those of 0.4 s later are summed over time, by interval and lower end;
    magnitudes of the Fourier transform over lower ends do not depend on the key.
    """
    lengths_T1 = np.linalg.norm(chroma_TP, axis=1, keepdims=True)
    unit_TP = chroma_TP / np.maximum(lengths_T1 + _FLOOR * chroma_TP.max(), np.finfo(np.float64).tiny)
    between = round(PROGRESSION_FRAMES / speed)
    before_TP, after_TP = unit_TP[:-between] ** 2, unit_TP[between:] ** 2
    pairs_PP = np.einsum("tp,tq->pq", before_TP, after_TP)
    classes = np.arange(PITCH_CLASSES)
    by_interval = np.stack([pairs_PP[classes, (classes + step) % PITCH_CLASSES] for step in range(PITCH_CLASSES)])
    magnitude = np.abs(np.fft.fft(by_interval - by_interval.mean(), axis=1))
    return np.sqrt(magnitude[:, :_ROTATIONS]).ravel()


def rhythm(pitches_TJ: np.ndarray, speed: float = 1.0) -> np.ndarray:
    """Describe how often notes begin: the spectrum of onsets from 0.4 to 8 a second, on a log scale, float64 `[48]`.

    An onset is a rise of the logarithm of a semitone's amplitude. Bins of 6 % keep it when tempo changes a little.
    """
    amplitudes_TJ = pitches_TJ.astype(np.float64)
    levels_TJ = np.log1p(_LOUDNESS * amplitudes_TJ / max(amplitudes_TJ.max(), np.finfo(np.float64).tiny))
    onsets_T = np.maximum(0, np.diff(levels_TJ, axis=0)).sum(axis=1)
    onsets_T = (onsets_T - onsets_T.mean()) * np.hanning(len(onsets_T))
    bins = _rhythm_filters(speed) @ np.abs(np.fft.rfft(onsets_T, n=_RHYTHM_FFT))
    length = np.linalg.norm(bins)
    bins = bins / length if length > 0 else bins
    return bins - bins.mean()


@cache
def _rhythm_filters(speed: float) -> csr_array:
    """Means of linearly interpolated values at five points of each bin, float64 `[48, 513]`."""
    spacing_hz = SAMPLE_RATE_HZ / PITCH_HOP / _RHYTHM_FFT
    edges = speed * np.geomspace(*_RHYTHM_HZ, _RHYTHM_BINS + 1)
    out = np.zeros((_RHYTHM_BINS, _RHYTHM_FFT // 2 + 1))
    for row, (low, high) in zip(out, pairwise(edges), strict=True):
        for point in np.linspace(low, high, _RHYTHM_POINTS) / spacing_hz:
            below = int(point)
            row[below] += (1 - (point - below)) / _RHYTHM_POINTS
            row[below + 1] += (point - below) / _RHYTHM_POINTS
    return csr_array(out)


@cache
def _waves(n_frames: int, speed: float) -> np.ndarray:
    """Complex exponentials of the slowest frequencies of so many frames, times a speed: complex128 `[20, T]`."""
    turns = np.outer(speed * np.arange(_HARMONY_TIMES), np.arange(n_frames)) / n_frames
    return np.exp(-2j * np.pi * turns)
