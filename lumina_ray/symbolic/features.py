"""Twelve musical features of a list of notes, in five aspects.

Source: Table 4 of Aria (arXiv:2605.16181), whose names are those of jSymbolic 2.2 (McKay et al. 2018). What the table
leaves open is said in `symbolic_features`.

Shape legend: n = notes, m = moments at which notes begin, F = frames of a 50 Hz grid.
"""

import numpy as np

from lumina_ray.symbolic.notes import Notes

FRAMES_PER_S = 50
LARGEST_INTERVAL = 24
"""Larger melodic intervals are counted as this one, in semitones."""
RHYTHMIC_VALUES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4, 6, 8)
"""From a thirty-second to a double whole note, in beats; from the quaver on also dotted."""
_PITCHES = 128
_FRAMES_AT_ONCE = 20_000

DIMENSIONS = {
    "melody.intervals": LARGEST_INTERVAL + 1,
    "harmony.pitch-classes": 12,
    "harmony.vertical-intervals": 12,
    "rhythm.density": 1,
    "rhythm.mean-value": 1,
    "rhythm.values": len(RHYTHMIC_VALUES),
    "dynamics.change": 1,
    "dynamics.spread": 1,
    "dynamics.range": 1,
    "texture.polyphony": 1,
    "texture.polyphony-spread": 1,
    "texture.range": 1,
}
"""Numbers of each feature, by `ASPECT.FEATURE`, as tables of features name them."""


def symbolic_features(notes: Notes) -> dict[str, np.ndarray]:
    """Compute the features, each float64 of the length that `DIMENSIONS` gives.

    - `melody.intervals` (M-1): sizes of the intervals between the highest notes of successive moments.
    - `harmony.pitch-classes` (P-2): notes of each pitch class.
    - `harmony.vertical-intervals` (C-2): intervals mod 12 between any two notes that sound in a frame, over all frames.
    - `rhythm.density` (R-3): notes a second, from the first one's beginning to the last one's end.
    - `rhythm.mean-value` (R-15): mean length in beats.
    - `rhythm.values` (R-23): notes by the nearest of `RHYTHMIC_VALUES`, as a ratio.
    - `dynamics.change` (D-1): mean absolute change, between successive moments, of their notes' mean velocity.
    - `dynamics.spread`, `dynamics.range` (D-2, D-3): standard deviation, and difference of extremes, of velocity.
    - `texture.polyphony`, `texture.polyphony-spread` (T-2, T-7): mean and standard deviation of how many notes sound in
      a frame, silent frames included.
    - `texture.range` (P-6): semitones from the lowest to the highest note.

    Histograms add up to 1, but for those of what does not occur, such as intervals of a single voice: these are zeros.
    """
    moment_n = np.unique(notes.start_beat_n, return_inverse=True)[1].ravel()
    highest_m = np.zeros(moment_n[-1] + 1, np.int64)
    np.maximum.at(highest_m, moment_n, notes.pitch_n)
    interval_m = np.abs(np.diff(highest_m)).clip(max=LARGEST_INTERVAL)
    loudness_m = np.bincount(moment_n, notes.velocity_n) / np.bincount(moment_n)
    change_m = np.abs(np.diff(loudness_m))
    length_n = notes.end_beat_n - notes.start_beat_n
    nearest_n = np.abs(np.log(length_n)[:, None] - np.log(RHYTHMIC_VALUES)).argmin(axis=1)
    vertical, sounding_F = _vertical(notes)
    values: dict[str, np.ndarray | float] = {
        "melody.intervals": _shares(np.bincount(interval_m, minlength=LARGEST_INTERVAL + 1)),
        "harmony.pitch-classes": _shares(np.bincount(notes.pitch_n % 12, minlength=12)),
        "harmony.vertical-intervals": _shares(vertical),
        "rhythm.density": len(length_n) / (notes.end_s_n.max() - notes.start_s_n[0]),
        "rhythm.mean-value": length_n.mean(),
        "rhythm.values": _shares(np.bincount(nearest_n, minlength=len(RHYTHMIC_VALUES))),
        "dynamics.change": change_m.mean() if len(change_m) else 0.0,
        "dynamics.spread": notes.velocity_n.std(),
        "dynamics.range": np.ptp(notes.velocity_n),
        "texture.polyphony": sounding_F.mean(),
        "texture.polyphony-spread": sounding_F.std(),
        "texture.range": np.ptp(notes.pitch_n),
    }
    return {name: np.atleast_1d(np.asarray(values[name], np.float64)) for name in DIMENSIONS}


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(counts.sum(), 1)


def _vertical(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Count pairs of notes that sound together in a frame by interval mod 12; and the notes of each frame, int64 `[F]`.

    Frames begin with the first note. A note sounds in those from its beginning to before its end, and in at least one.
    """
    first_n, end_n = (
        np.round((s - notes.start_s_n[0]) * FRAMES_PER_S).astype(int) for s in (notes.start_s_n, notes.end_s_n)
    )
    end_n = np.maximum(end_n, first_n + 1)
    F = int(end_n.max())
    steps_FP = np.zeros((F + 1, _PITCHES), np.int32)
    np.add.at(steps_FP, (first_n, notes.pitch_n), 1)
    np.add.at(steps_FP, (end_n, notes.pitch_n), -1)
    sounding_FP = steps_FP.cumsum(axis=0, dtype=np.int32)[:F]
    together_PP = np.zeros((_PITCHES, _PITCHES))
    for begin in range(0, F, _FRAMES_AT_ONCE):
        block_FP = sounding_FP[begin : begin + _FRAMES_AT_ONCE].astype(np.float64)
        together_PP += block_FP.T @ block_FP
    counts = np.zeros(12)
    # Notes of one pitch are pairs in n (n − 1) / 2 ways; of two pitches, every one of the one with all of the other.
    counts[0] = (np.trace(together_PP) - sounding_FP.sum()) / 2
    for interval in range(1, _PITCHES):
        counts[interval % 12] += np.trace(together_PP, offset=interval)
    return counts, sounding_FP.sum(axis=1)
