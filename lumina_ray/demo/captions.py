"""Captions of the demo's songs, such as `fast metal level music, guitar, bass, drums`.

The first part says tempo, style and form; the parts after it name instruments, the most used first. Tempo and
instruments are those of the score between the first and the last sample of the song.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lumina_ray.demo.scores import DRUM_CHANNEL

if TYPE_CHECKING:
    import mido

DRUMS = "drums"
INSTRUMENTS: tuple[tuple[range, str], ...] = (
    (range(0, 8), "piano"),
    (range(8, 16), "bells"),
    (range(16, 24), "organ"),
    (range(24, 32), "guitar"),
    (range(32, 40), "bass"),
    (range(40, 52), "strings"),
    (range(52, 55), "voices"),
    (range(55, 56), "strings"),
    (range(56, 64), "brass"),
    (range(64, 72), "reeds"),
    (range(72, 80), "flutes"),
    (range(80, 104), "synth"),
    (range(104, 112), "lutes"),
    (range(112, 120), "percussion"),
    (range(120, 128), "noises"),
)
"""Words for General MIDI's families of programs, counted from zero. One family holds string ensembles and voices, which
are two words here; three families are synthesizers, which are one."""

# The thirds of the rates of onsets of the catalog's 136 songs, as they are rendered with seed 0: 0.5 to 12.2 a second.
MEDIUM_FROM_ONSETS_PER_S = 2.4
FAST_FROM_ONSETS_PER_S = 3.6
# Notes that begin together, but for the unevenness of a performance, are one onset.
_TOGETHER_S = 0.02

_MAX_FAMILIES = 3
# What plays less than a tenth of the notes is not heard as what the music is for.
_MIN_PART = 0.1


@dataclass(frozen=True)
class Note:
    """A note that begins.

    Attributes:
        begin_s: in seconds at the score's own speed.
        instrument: a word of `INSTRUMENTS`, or "drums".
    """

    begin_s: float
    instrument: str


def instrument_of(program: int) -> str:
    """The word for a General MIDI program, 0 to 127."""
    return next(word for programs, word in INSTRUMENTS if program in programs)


def notes_between(midi: "mido.MidiFile", begin_s: float, end_s: float) -> list[Note]:
    """List the notes that begin in a part of a score, in their order.

    Args:
        midi: the score.
        begin_s, end_s: the part, in seconds at the score's own speed; the end does not belong to it.
    """
    # A channel that names no program plays the first one, as the renderer does.
    programs, now_s, notes = [0] * 16, 0.0, []
    for message in midi:
        now_s += message.time
        if now_s >= end_s:
            break
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0 and now_s >= begin_s:
            drum = message.channel == DRUM_CHANNEL
            notes.append(Note(now_s, DRUMS if drum else instrument_of(programs[message.channel])))
    return notes


def used_instruments(notes: Sequence[Note]) -> tuple[str, ...]:
    """Name the instruments that play most notes, three at most and the most used first, then drums where there are any.

    Each plays a tenth of the notes or more: of those that drums do not play, and for drums, of all.
    """
    counts = Counter(note.instrument for note in notes)
    n_drums = counts.pop(DRUMS, 0)
    most_used = tuple(word for word, count in counts.most_common(_MAX_FAMILIES) if count >= _MIN_PART * counts.total())
    return (*most_used, DRUMS) if n_drums and n_drums >= _MIN_PART * len(notes) else most_used


def onsets_per_s(notes: Sequence[Note], duration_s: float) -> float:
    """The rate at which notes begin; those that begin together count once.

    Drums do not count: the demo gives some scores drums that others like them lack, and tempo is not to say so again.

    Args:
        notes: in their order.
        duration_s: how long they take as they are heard.
    """
    onsets, last_s = 0, float("-inf")
    for note in notes:
        if note.instrument != DRUMS and note.begin_s - last_s > _TOGETHER_S:
            onsets, last_s = onsets + 1, note.begin_s
    return onsets / duration_s


def tempo_word(notes: Sequence[Note], duration_s: float) -> str:
    """Slow, medium or fast, by `onsets_per_s`. Many scores name no tempo, so that their beats would tell nothing."""
    rate = onsets_per_s(notes, duration_s)
    if rate < MEDIUM_FROM_ONSETS_PER_S:
        return "slow"
    return "medium" if rate < FAST_FROM_ONSETS_PER_S else "fast"


def caption(style: str | None, form: str | None, tempo: str | None = None, instruments: Sequence[str] = ()) -> str:
    """The caption of a song; what is not known of it is left out."""
    kind = " ".join(word for word in (tempo, style, form or "music") if word)
    return ", ".join([kind, *instruments])
