"""Events: a bar that was written by hand, and the way there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.errors import MidiError
from lumina_ray.symbolic.events import N_EVENTS, decode, encode, pitch_classes, seconds
from lumina_ray.symbolic.notes import notes_of
from tests.symbolic.making import midi_of, random_notes


def test_a_bar_is_written_as_by_hand() -> None:
    # At one second a beat: a chord of two velocities for 1.5 s, then a repeated note.
    notes = notes_of(midi_of([(1, 1.5, 60, 80), (1, 1.5, 64, 83), (2.5, 0.5, 60, 40)]), "a.mid")
    velocity, shift = 356, 256
    expected = [
        *(velocity + 20, 60, 64),
        *(shift + 99, shift + 49, 128 + 60, 128 + 64),
        *(velocity + 10, 60, shift + 49, 128 + 60),
    ]
    events = encode(notes)
    assert events.tolist() == expected
    assert seconds(events) == 2.0
    np.testing.assert_allclose(pitch_classes(events), np.eye(12)[0] * 2 / 3 + np.eye(12)[4] / 3)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_what_is_read_back_is_what_was_written(seed: int) -> None:
    notes = random_notes(seed)
    events = encode(notes)
    assert set(events) <= set(range(N_EVENTS))
    back = decode(events)
    # A note that begins ends the one of its pitch before it; of two at once one is left.
    expected = {}
    for start, end, pitch in zip(
        notes.start_s_n - notes.start_s_n[0], notes.end_s_n - notes.start_s_n[0], notes.pitch_n, strict=True
    ):
        for (other, before), until in expected.items():
            if other == pitch and until > start:
                expected[other, before] = start
        expected[int(pitch), round(start, 2)] = end
    found = {(int(p), round(s, 2)): e for p, s, e in zip(back.pitch_n, back.start_s_n, back.end_s_n, strict=True)}
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()))
    begun = zip(notes.pitch_n, notes.start_s_n - notes.start_s_n[0], notes.velocity_n, strict=True)
    at_once = {(int(pitch), round(start, 2)): velocity for pitch, start, velocity in reversed(list(begun))}
    for pitch, start, velocity in zip(back.pitch_n, back.start_s_n, back.velocity_n, strict=True):
        assert abs(at_once[int(pitch), round(start, 2)] - velocity) <= 2
    assert encode(back).tolist() == events.tolist()


def test_any_events_can_be_read() -> None:
    events = np.random.default_rng(0).integers(0, N_EVENTS, 500)
    back = decode(events)
    assert (back.end_s_n > back.start_s_n).all()
    with pytest.raises(MidiError, match="no note"):
        decode(np.array([300, 128, 360]))
