"""Captions of the demo: words for what a score plays, against scores written by hand."""

import pytest

from lumina_ray.demo.captions import (
    Note,
    caption,
    instrument_of,
    notes_between,
    onsets_per_s,
    tempo_word,
    used_instruments,
)
from lumina_ray.demo.songs import demo_songs

mido = pytest.importorskip("mido")

TICKS = 480
"""Half a second, at the tempo that a MIDI file without one has."""


def notes(*instruments: str) -> list[Note]:
    """Notes half a second apart."""
    return [Note(i / 2, instrument) for i, instrument in enumerate(instruments)]


def test_notes_have_the_instrument_of_their_channel_at_their_time() -> None:
    track = mido.MidiTrack(
        [
            mido.Message("note_on", channel=2, note=60, time=0),
            mido.Message("program_change", channel=2, program=19, time=0),
            mido.Message("note_on", channel=2, note=60, time=TICKS),
            mido.Message("note_on", channel=2, note=60, velocity=0, time=0),
            mido.Message("note_on", channel=9, note=36, time=TICKS),
            mido.Message("note_on", channel=3, note=60, time=TICKS),
            mido.Message("note_on", channel=2, note=60, time=TICKS),
        ]
    )
    score = mido.MidiFile(tracks=[track], ticks_per_beat=TICKS)
    everything = [(note.begin_s, note.instrument) for note in notes_between(score, 0, 10)]
    assert everything == [(0, "piano"), (0.5, "organ"), (1, "drums"), (1.5, "piano"), (2, "organ")]
    assert [note.begin_s for note in notes_between(score, 0.5, 1.5)] == [0.5, 1]


def test_every_program_has_a_word() -> None:
    words = [instrument_of(program) for program in range(128)]
    assert [words[program] for program in (0, 14, 29, 33, 42, 48, 52, 56, 68, 73, 81, 127)] == [
        *("piano", "bells", "guitar", "bass", "strings", "strings"),
        *("voices", "brass", "reeds", "flutes", "synth", "noises"),
    ]


def test_the_most_used_instruments_are_named_and_drums_come_last() -> None:
    assert used_instruments(notes("bass", "guitar", "guitar", "drums")) == ("guitar", "bass", "drums")
    assert used_instruments(notes(*"aaaabbbccd")) == ("a", "b", "c")
    assert used_instruments(notes(*["organ"] * 10, "flutes")) == ("organ",), "less than a tenth"
    assert used_instruments(notes(*["organ"] * 10, "drums")) == ("organ",)
    assert used_instruments(notes("drums")) == ("drums",)
    assert used_instruments([]) == ()


def test_chords_are_one_onset_and_drums_none() -> None:
    chord = [Note(1.0, "piano"), Note(1.01, "piano"), Note(1.5, "drums"), Note(2.0, "bass")]
    assert onsets_per_s(chord, 4.0) == 0.5
    assert [tempo_word(notes(*["piano"] * n), 10.0) for n in (23, 24, 35, 36)] == ["slow", "medium", "medium", "fast"]


def test_what_is_not_known_is_left_out() -> None:
    assert caption("metal", "level music", "fast", ("guitar", "drums")) == "fast metal level music, guitar, drums"
    assert caption("ragtime", None, "slow", ["piano"]) == "slow ragtime music, piano"
    assert caption("electronic", None) == "electronic music"
    assert caption(None, None) == "music"


def test_the_vocabulary_of_the_table_is_small_and_without_commas() -> None:
    songs = demo_songs()
    styles, forms = ({getattr(song, name) for song in songs} - {None} for name in ("style", "form"))
    assert len(styles) <= 14
    assert len(forms) <= 16
    assert all(word.replace(" ", "").isalpha() and word.islower() for word in styles | forms)
    catalog = [song for song in songs if song.part == "catalog"]
    assert all(song.style for song in catalog)
    for style in ("metal", "ambient", "baroque", "renaissance", "classical", "electronic", "rock"):
        assert sum(song.style == style for song in catalog) >= 7
