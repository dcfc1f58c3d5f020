"""Notes of MIDI files, and files that have none."""

from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.errors import MidiError
from lumina_ray.symbolic.notes import MAX_BYTES, Notes, notes_of, read_notes
from tests.symbolic.making import TICKS, bytes_of, midi_of

SCALE = [(float(i), 0.5, 60 + i, 70 + i) for i in range(4)]


def test_notes_come_in_beats_and_in_seconds_of_all_tempi() -> None:
    midi = midi_of([(0, 1, 60, 80), (1, 2, 64, 60), (1, 1, 55, 50)], tempo=500_000)
    # From beat 2 on a beat takes two seconds, whichever track says so.
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=2_000_000, time=2 * TICKS)]))
    found = notes_of(midi, "a.mid")
    np.testing.assert_array_equal(found.pitch_n, [60, 55, 64])
    np.testing.assert_array_equal(found.velocity_n, [80, 50, 60])
    np.testing.assert_allclose(found.start_beat_n, [0, 1, 1])
    np.testing.assert_allclose(found.end_beat_n, [1, 2, 3])
    np.testing.assert_allclose(found.start_s_n, [0, 0.5, 0.5])
    np.testing.assert_allclose(found.end_s_n, [0.5, 1.0, 3.0])


def test_a_note_ends_with_the_next_of_its_key_or_with_its_track() -> None:
    track = mido.MidiTrack(
        [
            mido.Message("note_on", note=60, velocity=80),
            mido.Message("note_on", note=60, velocity=70, time=TICKS),
            mido.Message("note_on", note=62, velocity=70),
            # Velocity 0 ends a note; of another channel it ends another one.
            mido.Message("note_on", note=62, velocity=0, time=TICKS),
            mido.Message("note_off", note=60, channel=1),
            mido.MetaMessage("end_of_track", time=TICKS),
        ]
    )
    found = notes_of(mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]), "a.mid")
    assert list(zip(found.pitch_n, found.start_beat_n, found.end_beat_n, strict=True)) == [
        (60, 0, 1),
        (60, 1, 3),
        (62, 1, 2),
    ]


def test_drums_are_no_notes() -> None:
    with pytest.raises(MidiError, match="no notes, drums left out"):
        notes_of(midi_of(SCALE, channel=9), "a.mid")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no MIDI file, or damaged"),
        (b"RIFF....WAVE", "no MIDI file, or damaged"),
        (bytes_of(midi_of(SCALE))[:-9], "no MIDI file, or damaged"),
        (bytes_of(midi_of([])), "has no notes"),
        (bytes_of(midi_of(SCALE)).replace(b"\0\1\1\xe0", b"\0\1\xe7\x28"), "frames of film"),
        (bytes_of(midi_of(SCALE)).replace(b"\0\1\0\1", b"\0\2\0\1"), "type 2"),
        (b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\x0e" + b"\xff" * 10 + b"\x7f\x90\x3c\x40", "ticks"),
        (bytes_of(midi_of([(0, 5000, 60, 80)])), "lasts 5000 s"),
        (bytes_of(midi_of(SCALE, tempo=0)), "a tempo of no time"),
        # A million notes in running status: a key's number and velocity, once more to end it.
        (
            b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\x5b\x8d\x83\0\x90\x3c\x40" + b"\1\x3c\0\0\x3c\x40" * 1_000_000,
            "more than",
        ),
    ],
    ids=["empty", "other", "cut", "no notes", "film", "type 2", "endless", "long", "no time", "million"],
)
def test_files_that_cannot_be_used_say_why(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(data)
    with pytest.raises(MidiError, match=message) as raised:
        read_notes(path)
    assert str(path) in str(raised.value)


def test_too_many_notes_and_missing_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lumina_ray.symbolic.notes.MAX_NOTES", 3)
    with pytest.raises(MidiError, match="more than 3 notes"):
        notes_of(midi_of([*SCALE, (9, 1, 60, 1)]), "a.mid")
    for path in (tmp_path / "none.mid", tmp_path, Path("/dev/zero")):
        with pytest.raises(MidiError, match="cannot be read"):
            read_notes(path)
    assert len(bytes_of(midi_of(SCALE))) < MAX_BYTES


@settings(max_examples=150)
@given(data=st.data())
def test_damage_anywhere_gives_notes_or_a_clear_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray(bytes_of(midi_of(SCALE)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.mid"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole))
    try:
        found = read_notes(path)
    except MidiError:
        return
    assert isinstance(found, Notes)
    assert (found.end_s_n > found.start_s_n).all()
    assert (np.diff(found.start_beat_n) >= 0).all()
