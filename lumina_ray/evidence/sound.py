"""Sound of a chunk: timbre, how it wavers, and how it rises and dies away after a note begins.

Shape legend: T = frames (50 a second), B = mel bands, K = cepstral coefficients.
"""

from itertools import pairwise

import numpy as np
from scipy.fft import dct

from lumina_ray.evidence.spectra import MEL_HOP, N_BANDS
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

_EDGE_FRAMES = 5
"""Frames at either end that silence around the chunk reaches into."""
_RANGE, _HEARD = 7.0, 4.0
"""Depths below the loudest band, in powers of ten: what lies deeper is cut off (70 dB); frames all of whose bands lie
deeper are no part of timbre (40 dB)."""
_COEFFICIENTS = 40
_GROUPS = 16
_WAVER_HZ = (0.5, 1.0, 2.0, 4.0, 6.0, 9.0, 14.0, 25.0)
_ONSETS, _FEWEST_ONSETS = 40, 5
_BEFORE, _AFTER = 2, (1, 2, 3, 5, 8, 12, 18, 25)
"""Frames before and after an onset whose levels are compared."""

PARTS = {
    "timbre": 4 * _COEFFICIENTS - 1,
    "waver": (len(_WAVER_HZ) - 1) * _GROUPS,
    "onset": len(_AFTER) * _GROUPS,
}
"""All parts by name, and how many numbers each has."""


def sound_parts(levels_TB: np.ndarray) -> dict[str, np.ndarray]:
    """Describe the sound of a chunk in each of `PARTS`, float64.

    Args:
        levels_TB: from `lumina_ray.evidence.spectra.mel_levels`, of a full chunk.
    """
    levels_TB = levels_TB[_EDGE_FRAMES:-_EDGE_FRAMES].astype(np.float64)
    levels_TB = np.maximum(levels_TB, levels_TB.max() - _RANGE)
    return {"timbre": timbre(levels_TB), "waver": waver(levels_TB), "onset": onset(levels_TB)}


def timbre(levels_TB: np.ndarray) -> np.ndarray:
    """Summarise mel-frequency cepstral coefficients of the frames that are heard, float64 `[159]`.

    Means of coefficients 1 to 39, standard deviations of 0 to 39, and of the changes within 40 ms their standard
    deviations and mean sizes. (Davis & Mermelstein 1980.)
    """
    cepstra_TK = dct(levels_TB, axis=1, norm="ortho")[:, :_COEFFICIENTS]
    loudest_T = levels_TB.max(axis=1)
    heard_TK = cepstra_TK[loudest_T > loudest_T.max() - _HEARD]
    changes_TK = np.diff(cepstra_TK[::2], axis=0)
    return np.concatenate(
        [heard_TK[:, 1:].mean(axis=0), heard_TK.std(axis=0), changes_TK.std(axis=0), np.abs(changes_TK).mean(axis=0)]
    )


def waver(levels_TB: np.ndarray) -> np.ndarray:
    """Measure how much each of 16 groups of bands changes at 7 rates from 0.5 to 25 Hz, as logarithms: `[112]`."""
    moving_TB = (levels_TB - levels_TB.mean(axis=0)) * np.hanning(len(levels_TB))[:, None]
    power_FB = np.abs(np.fft.rfft(moving_TB, axis=0)) ** 2
    power_FG = power_FB.reshape(len(power_FB), _GROUPS, N_BANDS // _GROUPS).sum(axis=2)
    hz_F = np.fft.rfftfreq(len(levels_TB), MEL_HOP / SAMPLE_RATE_HZ)
    means = [power_FG[(hz_F >= low) & (hz_F < high)].mean(axis=0) for low, high in pairwise(_WAVER_HZ)]
    return np.log(np.concatenate(means) + 1e-6)


def onset(levels_TB: np.ndarray) -> np.ndarray:
    """Measure by how much 16 groups of bands lie above their level before an onset, 20 to 500 ms after it: `[128]`.

    The mean over the 40 frames with the strongest rise. Where hardly any is left inside the chunk, over every 20th.
    """
    rises_T = np.maximum(0, np.diff(levels_TB, axis=0)).sum(axis=1)
    last = len(levels_TB) - _AFTER[-1] - _EDGE_FRAMES
    strongest = np.argsort(-rises_T, kind="stable")[:_ONSETS]
    strongest = strongest[(strongest > _EDGE_FRAMES) & (strongest < last)]
    if len(strongest) < _FEWEST_ONSETS:
        strongest = np.arange(_EDGE_FRAMES, last, 20)
    before_B = levels_TB[strongest - _BEFORE].mean(axis=0)
    above = np.stack([levels_TB[strongest + after].mean(axis=0) - before_B for after in _AFTER])
    return above.reshape(len(_AFTER), _GROUPS, N_BANDS // _GROUPS).mean(axis=2).ravel()
