"""Music as a sequence of events, and back: notes that begin and end, time that passes, and velocities.

388 events: 128 beginnings of a note, 128 ends, 100 shifts of time by 10 ms to 1 s, and 32 velocities in steps of 4,
which hold until the next one.

Source: Oore et al. 2018 (arXiv:1808.03715), as the Music Transformer has them (Huang et al. 2018, arXiv:1809.04281).
"""

from collections.abc import Iterator

import numpy as np

from lumina_ray.errors import MidiError
from lumina_ray.symbolic.notes import Notes

NOTE_ON, NOTE_OFF, SHIFT, VELOCITY = 0, 128, 256, 356
"""First event of each group."""
N_EVENTS = 388
STEPS_PER_S = 100
_LONGEST_SHIFT = 100
_VELOCITY_STEP = 4
_ASSUMED_BEATS_PER_S = 2.0


def encode(notes: Notes) -> np.ndarray:
    """Write notes as events, int64 `[T]`, from the first note's beginning on.

    A note that begins while another of its pitch sounds ends that one; of two that begin together the later in order
    says when they end. Every note lasts at least one step.
    """
    start_n, end_n = (
        np.round((seconds_n - notes.start_s_n[0]) * STEPS_PER_S).astype(int)
        for seconds_n in (notes.start_s_n, notes.end_s_n)
    )
    latest: dict[int, list[int]] = {}
    kept: list[list[int]] = []
    for start, end, pitch, velocity in zip(
        *(of_n.tolist() for of_n in (start_n, np.maximum(end_n, start_n + 1), notes.pitch_n, notes.velocity_n)),
        strict=True,
    ):
        before = latest.get(pitch)
        if before and before[0] == start:
            before[1] = end
            continue
        if before:
            before[1] = min(before[1], start)
        latest[pitch] = [start, end, pitch, velocity // _VELOCITY_STEP]
        kept.append(latest[pitch])
    # At one time notes end before others begin.
    timed = sorted(
        [(end, 0, pitch, 0) for _, end, pitch, _ in kept]
        + [(start, 1, pitch, velocity) for start, _, pitch, velocity in kept]
    )
    events: list[int] = []
    now, loudness = 0, -1
    for step, begins, pitch, velocity in timed:
        while step > now:
            shift = min(step - now, _LONGEST_SHIFT)
            events.append(SHIFT + shift - 1)
            now += shift
        if not begins:
            events.append(NOTE_OFF + pitch)
            continue
        if velocity != loudness:
            events.append(VELOCITY + velocity)
            loudness = velocity
        events.append(NOTE_ON + pitch)
    return np.array(events, np.int64)


def decode(events_T: np.ndarray) -> Notes:
    """Read events as notes; a beat is half a second, as events know none.

    Ends of notes that do not sound say nothing. Notes that do not end do so with the events, and notes that take no
    time are left out. Velocities are the middle of their step; before the first one it is 64.

    Raises:
        MidiError: there is no note.
    """
    found = sorted((start, pitch, end, velocity) for start, end, pitch, velocity in _decoded(events_T) if end > start)
    if not found:
        raise MidiError("the events hold no note; take more of them")
    start_n, pitch_n, end_n, velocity_n = np.array(found).T
    times = [start_n / STEPS_PER_S, end_n / STEPS_PER_S]
    return Notes(pitch_n, velocity_n, *times, *(seconds_n * _ASSUMED_BEATS_PER_S for seconds_n in times))


def seconds(events_T: np.ndarray) -> float:
    """Add up the shifts of time."""
    shifts = events_T[(events_T >= SHIFT) & (events_T < VELOCITY)]
    return float((shifts - SHIFT + 1).sum()) / STEPS_PER_S


def pitch_classes(events_T: np.ndarray) -> np.ndarray:
    """Shares of the notes that begin, by pitch class: float64 `[12]`, zeros where none does."""
    counts = np.bincount(events_T[events_T < NOTE_OFF] % 12, minlength=12)
    return counts / max(counts.sum(), 1)


def _decoded(events_T: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Start, end, pitch and velocity of every note; times in steps."""
    sounding: dict[int, tuple[int, int]] = {}
    now, velocity = 0, 64
    for event in events_T.tolist():
        if event >= VELOCITY:
            velocity = (event - VELOCITY) * _VELOCITY_STEP + _VELOCITY_STEP // 2
        elif event >= SHIFT:
            now += event - SHIFT + 1
        else:
            pitch = event % NOTE_OFF
            if pitch in sounding:
                start, loudness = sounding.pop(pitch)
                yield start, now, pitch, loudness
            if event < NOTE_OFF:
                sounding[pitch] = now, velocity
    for pitch, (start, loudness) in sounding.items():
        yield start, now, pitch, loudness
