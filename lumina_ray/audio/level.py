"""Measures how loud audio is, frame by frame, and finds the gain that brings it to the common level.

The level of a recording is arbitrary: the same music is published louder and quieter, and the codec's codes change with
it. So all audio is brought to one level before it is encoded.
"""

from collections.abc import Iterator

import numpy as np

from lumina_ray.audio.highpass import high_passed, steady_state

FRAME_SAMPLES = 640
"""Samples of one frame of the codec, 20 ms."""
LEVEL_DBFS = -16.0
"""Level that all audio is brought to."""
# What is so far below the average of the whole is a pause, and no part of the level.
_PAUSE_DB = -20.0
_FULL_SCALE = 1.0
# How many frames may be clicks, and how much higher their peaks are than those of all others. In music, a single stroke
# is up to 9 dB above all others (one of 199 songs).
_CLICK_FRAMES, _CLICK_FRACTION = 2, 1 / 500
_CLICK_RATIO = 4.0
_BLOCK_FRAMES = 1 << 14


def frames_of(n_samples: int) -> int:
    """Number of the codec's frames of so many samples; the last one may be a part."""
    return -(-n_samples // FRAME_SAMPLES)


def frame_powers(samples: np.ndarray) -> np.ndarray:
    """Mean square of the audible part of each frame, float64 `[T]`; the last frame may be a part of one.

    Args:
        samples: float32 `[n]`, mono, 32 kHz; full scale is 1.
    """
    return np.concatenate([np.zeros(0), *_powers_of_blocks(samples)])


def _powers_of_blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    # Block by block: an hour in float64 would take a gigabyte.
    state = steady_state(samples[0] if len(samples) else 0)
    for begin in range(0, len(samples), _BLOCK_FRAMES * FRAME_SAMPLES):
        heard, state = high_passed(samples[begin : begin + _BLOCK_FRAMES * FRAME_SAMPLES], state)
        firsts = np.arange(0, len(heard), FRAME_SAMPLES)
        yield np.add.reduceat(heard**2, firsts) / np.diff([*firsts, len(heard)])


def level_dbfs(powers_T: np.ndarray) -> float:
    """Level of audio in dB relative to full scale: root mean square over its frames, without pauses.

    A pause is a frame 20 dB below the average of all. So the level changes with the gain, and not with how long silent
    pauses are. Silence has −∞.

    Args:
        powers_T: from `frame_powers`.
    """
    average = powers_T.mean() if len(powers_T) else 0.0
    if average == 0:
        return -np.inf
    return decibels(float(powers_T[powers_T >= average * 10 ** (_PAUSE_DB / 10)].mean()))


def level_gain(samples: np.ndarray, powers_T: np.ndarray, level: float = LEVEL_DBFS) -> float:
    """The factor that brings audio to a level, or as close to it as full scale allows.

    Single clicks count for neither: they may exceed full scale after this gain.

    Args:
        samples: float32 `[n]`, not silent.
        powers_T: from `frame_powers`.
        level: in dB relative to full scale.
    """
    peaks_T = _frame_peaks(samples)
    music_T = ~_are_clicks(peaks_T)
    room = _FULL_SCALE / float(peaks_T[music_T].max())
    return min(10 ** ((level - level_dbfs(powers_T[music_T])) / 20), room)


def find_clicks(samples: np.ndarray) -> np.ndarray:
    """Whether each frame is a click, bool `[T]`: one of very few, whose peaks are far above those of all others.

    Args:
        samples: float32 `[n]`.
    """
    return _are_clicks(_frame_peaks(samples))


def _are_clicks(peaks_T: np.ndarray) -> np.ndarray:
    n = _CLICK_FRAMES + round(_CLICK_FRACTION * len(peaks_T))
    others = np.partition(peaks_T, -n - 1)[-n - 1] if n < len(peaks_T) else 0.0
    # Where all others are silent, these are the sound.
    return peaks_T > (others * _CLICK_RATIO if others else np.inf)


def _frame_peaks(samples: np.ndarray) -> np.ndarray:
    firsts = np.arange(0, len(samples), FRAME_SAMPLES)
    return np.maximum(np.maximum.reduceat(samples, firsts), -np.minimum.reduceat(samples, firsts))


def peak(samples: np.ndarray) -> float:
    """The largest magnitude of samples."""
    return float(max(samples.max(), -samples.min()))


def decibels(power: float) -> float:
    """A mean square in dB relative to full scale: 0 dB for a square wave at full scale, −∞ for silence."""
    return 10 * float(np.log10(power)) if power > 0 else -np.inf
