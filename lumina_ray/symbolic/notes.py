"""Notes of a MIDI file, in seconds and in beats. Drums are left out: their numbers are no pitches.

Shape legend: n = notes.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lumina_ray.demo.scores import DRUM_CHANNEL
from lumina_ray.errors import MidiError
from lumina_ray.files import open_file
from lumina_ray.vocabulary import MAX_DURATION_S

if TYPE_CHECKING:
    import mido

MAX_BYTES = 1 << 20
"""Larger files are refused before they are parsed, which takes some ten seconds a mebibyte."""
MAX_NOTES = 100_000
"""The most notes of a file, drums left out."""
_MICROSECONDS_PER_BEAT = 500_000
# An hour of the fastest music and the finest ticks there are.
_MAX_TICKS = 1 << 31


@dataclass(frozen=True)
class Notes:
    """Notes in the order in which they begin, lower ones first where several begin together; at least one.

    Attributes:
        pitch_n: int64, MIDI numbers 0 to 127.
        velocity_n: int64, 1 to 127.
        start_s_n, end_s_n: float64, in seconds; every note ends after it begins.
        start_beat_n, end_beat_n: float64, in beats, which are crotchets.
    """

    pitch_n: np.ndarray
    velocity_n: np.ndarray
    start_s_n: np.ndarray
    end_s_n: np.ndarray
    start_beat_n: np.ndarray
    end_beat_n: np.ndarray

    def before(self, seconds: float) -> "Notes":
        """Keep the notes that begin before a time.

        Raises:
            MidiError: none does.
        """
        kept_n = self.start_s_n < seconds
        if not kept_n.any():
            raise MidiError(f"no note begins before {seconds:g} s; take more of the piece")
        return Notes(*(getattr(self, name)[kept_n] for name in self.__dataclass_fields__))


def read_notes(path: Path) -> Notes:
    """Read the notes of a MIDI file.

    Raises:
        MidiError: it cannot be read, is no MIDI file or damaged, is larger than `MAX_BYTES`, has no notes but drums, or
            more than `MAX_NOTES`, or lasts longer than an hour.
    """
    import mido

    try:
        with open_file(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MidiError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if len(data) > MAX_BYTES:
        raise MidiError(f"{path}: has more than {MAX_BYTES} bytes, the limit for MIDI; cut it into pieces")
    try:
        midi = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception as error:
        # The parser raises anything on damaged files.
        raise MidiError(
            f"{path}: is no MIDI file, or damaged ({type(error).__name__}: {error}); export it again"
        ) from error
    return notes_of(midi, str(path))


def notes_of(midi: "mido.MidiFile", name: str) -> Notes:
    """Pair the messages of a parsed MIDI file into notes.

    A note ends with the next message for its key in its track and channel, be it the end of the note or the beginning
    of another, or else with its track.

    Args:
        midi: the file.
        name: what error messages call it.

    Raises:
        MidiError: see `read_notes`.
    """
    if midi.ticks_per_beat <= 0:
        raise MidiError(f"{name}: counts frames of film and not beats; export it with ticks per beat")
    if midi.type == 2:
        raise MidiError(f"{name}: its tracks do not play together (type 2); export it as type 0 or 1")
    tempi: list[tuple[int, int]] = []
    found: list[tuple[int, int, int, int]] = []
    for track in midi.tracks:
        tick, sounding = 0, dict[tuple[int, int], tuple[int, int]]()
        for message in track:
            tick += message.time
            if tick > _MAX_TICKS:
                raise MidiError(f"{name}: lasts more than {_MAX_TICKS} ticks; it is damaged, export it again")
            if message.type == "set_tempo":
                tempi.append((tick, message.tempo))
            elif message.type in ("note_on", "note_off") and message.channel != DRUM_CHANNEL:
                key = message.channel, message.note
                if key in sounding:
                    found.append((*sounding.pop(key), tick, message.note))
                if message.type == "note_on" and message.velocity > 0:
                    sounding[key] = tick, message.velocity
                if len(found) > MAX_NOTES:
                    raise MidiError(f"{name}: has more than {MAX_NOTES} notes; cut it into pieces")
        found += [(*begun, tick, note) for (_, note), begun in sounding.items()]
    rows = np.array(sorted((start, note, end, velocity) for start, velocity, end, note in found if end > start))
    if not len(rows):
        raise MidiError(f"{name}: has no notes, drums left out; take another file")
    start_n, pitch_n, end_n, velocity_n = rows.T
    # Of several tempi at one tick the last one counts.
    tempi.sort(key=lambda change: change[0])
    start_s_n, end_s_n = (_seconds(tick_n, tempi, midi.ticks_per_beat) for tick_n in (start_n, end_n))
    if not end_s_n.max() <= MAX_DURATION_S:
        raise MidiError(f"{name}: lasts {end_s_n.max():.0f} s, the limit is {MAX_DURATION_S:.0f}; cut it into pieces")
    if not (end_s_n > start_s_n).all():
        raise MidiError(f"{name}: has a tempo of no time at all, in which notes do not last; correct its tempo")
    beats = (tick_n / midi.ticks_per_beat for tick_n in (start_n, end_n))
    return Notes(pitch_n, velocity_n, start_s_n, end_s_n, *beats)


def _seconds(tick_n: np.ndarray, tempi: list[tuple[int, int]], ticks_per_beat: int) -> np.ndarray:
    """When ticks are, under tempi in microseconds a beat, each from a tick on."""
    changes = [(0, _MICROSECONDS_PER_BEAT), *tempi]
    ticks = np.array([tick for tick, _ in changes])
    rates = np.array([tempo for _, tempo in changes]) / ticks_per_beat / 1e6
    begins_s = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * rates[:-1])])
    place_n = np.searchsorted(ticks, tick_n, side="right") - 1
    return begins_s[place_n] + (tick_n - ticks[place_n]) * rates[place_n]
