"""Reads packaged scores (Freedoom's WAD lumps and music21's corpus) as MIDI, and arranges them by a seed."""

import gc
import io
import random
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lumina_ray.errors import UsageError

if TYPE_CHECKING:
    import mido
    from music21.stream import Score

DRUM_CHANNEL = 9
"""General MIDI's channel 10, counted from zero."""

PALETTES: tuple[tuple[int, ...], ...] = (
    (0, 1, 4, 5),  # pianos
    (6, 8, 11, 12, 46),  # harpsichord, celesta, vibraphone, marimba, harp
    (16, 17, 19, 20),  # organs
    (24, 25, 26, 27, 28),  # guitars
    (40, 41, 42, 44, 48),  # strings
    (52, 53, 54),  # voices
    (56, 57, 58, 60, 61),  # brass
    (64, 65, 66, 67, 68, 70, 71, 73),  # reeds and flute
    (80, 81, 82, 87, 88, 89, 90),  # synthesizers
    (29, 30, 33, 34, 38, 50),  # distorted guitars, basses, synthetic strings
)
"""Ensembles that a score may be arranged for, as General MIDI programs counted from zero."""

BASSES = (32, 33, 34, 35, 38, 39, 42, 43, 58, 70)
LOW_PITCH = 52
"""A voice whose mean pitch lies below this MIDI number is played by a bass instrument."""

EXCHANGEABLE_FAMILIES = (0, 1, 2, 3, 4, 8, 9, 10, 11)
"""General MIDI families (program // 8) in which any instrument can play another's voice. In other families, a melody
could end up on timpani or an orchestra hit."""

MAX_BEATS = 128
"""Only this many crotchets of a score are kept, because making MIDI is the slowest step. They are enough for 20 s of
the fastest score after a quiet beginning."""

GROOVES: tuple[tuple[tuple[int, float], ...], ...] = (
    # (drum key, position in beats within a pair of beats)
    ((36, 0.0), (38, 1.0), (42, 0.0), (42, 0.5), (42, 1.0), (42, 1.5)),
    ((36, 0.0), (36, 0.75), (38, 1.0), (51, 0.0), (51, 0.5), (51, 1.0), (51, 1.5)),
    ((36, 0.0), (36, 1.0), (39, 1.0), (46, 0.5), (46, 1.5)),
)


def package_folder(package: str) -> Path:
    """Find the folder of an installed package without importing the package.

    Raises:
        UsageError: the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"the demo catalog needs the package {package!r}, which is not installed: run `uv sync --extra demo`"
        )
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def wad_music(wad: Path) -> dict[str, bytes]:
    """Read the MIDI lumps of a Doom WAD file, by name.

    The file has a 12-byte header (magic, count, offset of the directory) and a directory of 16-byte entries (offset,
    size, name of 8 bytes).
    """
    data = wad.read_bytes()
    count, directory = struct.unpack_from("<ii", data, 4)
    lumps = {}
    for entry in range(count):
        offset, size, name = struct.unpack_from("<ii8s", data, directory + 16 * entry)
        if data[offset : offset + 4] == b"MThd":
            lumps[name.rstrip(b"\0").decode("ascii")] = data[offset : offset + size]
    return lumps


def freedoom_midi(ref: str) -> "mido.MidiFile":
    """Read the MIDI file at `WAD:LUMP` in vizdoom."""
    import mido

    wad, lump = ref.split(":")
    return mido.MidiFile(file=io.BytesIO(wad_music(package_folder("vizdoom") / wad)[lump]), clip=True)


def corpus_midi(ref: str) -> "mido.MidiFile":
    """Convert a score of music21's corpus to MIDI, with one track per voice. `ref` is a path in the corpus."""
    import mido
    from music21 import converter, midi

    path = package_folder("music21") / "corpus" / ref
    with warnings.catch_warnings(), _no_garbage_collection():
        warnings.simplefilter("ignore")  # Old encodings have oddities of notation that do not change the notes.
        # Without `forceSource`, music21 pickles every score into a folder that all of the user's programs share.
        score = converter.parse(path, forceSource=True, storePickle=False)
        if score.highestTime > MAX_BEATS:
            _keep_beginning(score)
        return mido.MidiFile(file=io.BytesIO(midi.translate.streamToMidiFile(score).writestr()))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Switch garbage collection off: in a score, a large graph of small objects, it would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _keep_beginning(score: "Score") -> None:
    """Remove the measures after `MAX_BEATS`, and all repeats, because a repeat may have lost its other end."""
    from music21 import bar, repeat, spanner, stream

    for part in score.parts:
        part.remove([measure for measure in part[stream.Measure] if measure.offset >= MAX_BEATS])
        part.remove([*part[repeat.RepeatExpression], *part[spanner.RepeatBracket]], recurse=True)
        for measure in part[stream.Measure]:
            if isinstance(measure.leftBarline, bar.Repeat):
                measure.leftBarline = None
            if isinstance(measure.rightBarline, bar.Repeat):
                measure.rightBarline = None


def arrange_band(midi: "mido.MidiFile", rng: random.Random) -> "mido.MidiFile":
    """Exchange some instruments of a band's MIDI file for others of their family, in place; returns the file."""
    shifts = [rng.randrange(8) if rng.random() < 0.5 else 0 for _ in range(16)]
    for track in midi.tracks:
        for message in track:
            if message.type != "program_change" or message.channel == DRUM_CHANNEL:
                continue
            family, member = divmod(message.program, 8)
            if family in EXCHANGEABLE_FAMILIES:
                message.program = family * 8 + (member + shifts[message.channel]) % 8
    return midi


def arrange_score(midi: "mido.MidiFile", rng: random.Random) -> "mido.MidiFile":
    """Give a score instruments that `rng` draws, and in two of five cases drums, in place; returns the file."""
    import mido

    palette = rng.choice(PALETTES)
    with_drums = rng.random() < 0.4
    groove = rng.choice(GROOVES)
    voices = [track for track in midi.tracks if any(message.type == "note_on" for message in track)]
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    for number, track in enumerate(voices):
        pitches = [message.note for message in track if message.type == "note_on"]
        low = len(voices) > 1 and sum(pitches) / len(pitches) < LOW_PITCH
        program = rng.choice(BASSES if low else palette)
        channel = channels[number % len(channels)]
        for message in track:
            if not message.is_meta:
                message.channel = channel
            if message.type == "program_change":
                message.program = program
        track.insert(0, mido.Message("program_change", program=program, channel=channel))
    if with_drums:
        end = max(sum(message.time for message in track) for track in midi.tracks)
        midi.tracks.append(_drum_track(groove, midi.ticks_per_beat, end))
    return midi


def _drum_track(groove: tuple[tuple[int, float], ...], ticks_per_beat: int, end: int) -> "mido.MidiTrack":
    """Make a track that repeats `groove`, every two beats, until `end` (in ticks)."""
    import mido

    strokes = [
        (round((start + beat) * ticks_per_beat), key)
        for start in range(0, end // ticks_per_beat, 2)
        for key, beat in groove
    ]
    events = sorted(
        [(tick, "note_on", key) for tick, key in strokes]
        + [(tick + ticks_per_beat // 4, "note_off", key) for tick, key in strokes]
    )
    track, now = mido.MidiTrack(), 0
    for tick, kind, key in events:
        track.append(mido.Message(kind, note=key, velocity=80, channel=DRUM_CHANNEL, time=tick - now))
        now = tick
    return track
