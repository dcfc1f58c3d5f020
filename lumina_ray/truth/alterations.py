"""Copies of a song as they turn up: what must still be recognised as the song itself."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr
from scipy.signal import butter, sosfilt

from lumina_ray.audio import load_audio
from lumina_ray.audio.encode import encode_mp3
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

COPY_S, EXCERPT_S, SILENCE_S, TRAINED_S = 10.0, 5.0, 2.0, 15.0
_MP3_BIT_RATE = 64_000
_SIGNAL_TO_NOISE_DB = 20.0
_LOW_PASS_HZ, _LOW_PASS_ORDER = 4_000, 4
_SPEEDS = (0.98, 1.02)


def altered_copies(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Every alteration of a song, by name; of its first 10 s, but for its end.

    Args:
        samples: float32 mono at 32 kHz, at least 15 s.

    Returns:
        Float32 mono at 32 kHz, 10 s each, the excerpt and the end 5 s.
    """
    return {name: alter(samples) for name, alter in _ALTERATIONS.items()}


def _as_mp3(samples: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.mp3"
        encode_mp3(_beginning(samples), path, _MP3_BIT_RATE)
        return _beginning(load_audio(path).samples)


def _at_level(decibels: float) -> Callable[[np.ndarray], np.ndarray]:
    """Change the level; clip what full scale does not hold, as a file does."""
    return lambda samples: np.clip(_beginning(samples) * np.float32(10 ** (decibels / 20)), -1, 1)


def _with_silence(samples: np.ndarray) -> np.ndarray:
    """Silence in the middle of the first 8 s."""
    half = round((COPY_S - SILENCE_S) / 2 * SAMPLE_RATE_HZ)
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE_HZ), np.float32)
    return np.concatenate([samples[:half], silence, samples[half : 2 * half]])


def _end(samples: np.ndarray) -> np.ndarray:
    """The last 5 s of what models learn from, the first 15 s."""
    end = round(TRAINED_S * SAMPLE_RATE_HZ)
    return samples[end - round(EXCERPT_S * SAMPLE_RATE_HZ) : end]


def _with_noise(samples: np.ndarray) -> np.ndarray:
    """White noise, so far below the song's own power."""
    song = _beginning(samples)
    noise = np.random.default_rng(0).standard_normal(len(song))
    level = np.sqrt(np.mean(song.astype(np.float64) ** 2)) * 10 ** (-_SIGNAL_TO_NOISE_DB / 20)
    return (song + level * noise).astype(np.float32)


def _low_passed(samples: np.ndarray) -> np.ndarray:
    filter_sections = butter(_LOW_PASS_ORDER, _LOW_PASS_HZ, fs=SAMPLE_RATE_HZ, output="sos")
    return sosfilt(filter_sections, _beginning(samples)).astype(np.float32)


def _excerpt(samples: np.ndarray) -> np.ndarray:
    """The middle of the first 10 s."""
    begin = round((COPY_S - EXCERPT_S) / 2 * SAMPLE_RATE_HZ)
    return samples[begin : begin + round(EXCERPT_S * SAMPLE_RATE_HZ)]


def _at_speed(speed: float) -> Callable[[np.ndarray], np.ndarray]:
    """Tempo and pitch together, as a turntable does it."""
    return lambda samples: _beginning(soxr.resample(samples, SAMPLE_RATE_HZ * speed, SAMPLE_RATE_HZ))


def _beginning(samples: np.ndarray) -> np.ndarray:
    return samples[: round(COPY_S * SAMPLE_RATE_HZ)]


_ALTERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mp3": _as_mp3,
    "quieter": _at_level(-6.0),
    "much_quieter": _at_level(-20.0),
    "louder": _at_level(6.0),
    "noise": _with_noise,
    "low_pass": _low_passed,
    "silence": _with_silence,
    "excerpt": _excerpt,
    "end": _end,
    "slower": _at_speed(_SPEEDS[0]),
    "faster": _at_speed(_SPEEDS[1]),
}
ALTERATIONS: dict[str, str] = {
    "mp3": "MP3 at 64 kbit/s",
    "quieter": "6 dB quieter",
    "much_quieter": "20 dB quieter",
    "louder": "6 dB louder, clipped",
    "noise": "white noise 20 dB below",
    "low_pass": "low-pass at 4 kHz",
    "silence": "2 s of silence inserted",
    "excerpt": "5 s of it",
    "end": "5 s of its end",
    "slower": "2 % slower and lower",
    "faster": "2 % faster and higher",
}
"""Each alteration in words, for people."""
