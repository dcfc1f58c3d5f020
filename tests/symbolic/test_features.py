"""The twelve features against pieces that were counted by hand, and against loops over notes and frames."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.symbolic.features import DIMENSIONS, symbolic_features
from lumina_ray.symbolic.notes import notes_of
from tests.symbolic.making import midi_of, random_notes

# One beat takes a second. C4 under E4, which holds on under a short G4, then two octaves of C.
PIECE = [(0, 1, 60, 80), (0, 2, 64, 60), (1, 0.5, 67, 100), (2, 2, 72, 100), (2, 2, 48, 40)]


def histogram(n: int, **counts: float) -> list[float]:
    """Numbers by place, named `at3`, as shares."""
    out = np.zeros(n)
    for name, count in counts.items():
        out[int(name.removeprefix("at"))] = count
    return list(out / out.sum())


COUNTED = {
    # Highest notes E4, G4, C5.
    "melody.intervals": histogram(25, at3=1, at5=1),
    "harmony.pitch-classes": histogram(12, at0=3, at4=1, at7=1),
    # C4 and E4 for 50 frames, E4 and G4 for 25, then C3 and C5 for 100.
    "harmony.vertical-intervals": histogram(12, at4=50, at3=25, at0=100),
    "rhythm.density": [5 / 4],
    "rhythm.mean-value": [(1 + 2 + 0.5 + 2 + 2) / 5],
    # A quaver, a crotchet, three minims.
    "rhythm.values": histogram(11, at2=1, at4=1, at6=3),
    # Mean velocities 70, 100, 70.
    "dynamics.change": [30],
    "dynamics.spread": [(((80 - 76) ** 2 + (60 - 76) ** 2 + 2 * (100 - 76) ** 2 + (40 - 76) ** 2) / 5) ** 0.5],
    "dynamics.range": [60],
    # Two notes, but for 25 of 200 frames, in which E4 is alone.
    "texture.polyphony": [1.875],
    "texture.polyphony-spread": [(0.125 * 0.875) ** 0.5],
    "texture.range": [24],
}


@pytest.mark.parametrize("name", COUNTED)
def test_each_feature_is_that_of_the_piece_that_was_counted_by_hand(name: str) -> None:
    found = symbolic_features(notes_of(midi_of(PIECE), "a.mid"))[name]
    np.testing.assert_allclose(found, COUNTED[name], atol=1e-12)


def test_there_are_twelve_of_the_lengths_of_the_published_table() -> None:
    assert list(COUNTED) == list(DIMENSIONS)
    assert list(DIMENSIONS.values()) == [25, 12, 12, 1, 1, 11, 1, 1, 1, 1, 1, 1]
    found = symbolic_features(random_notes(0))
    assert {name: len(values) for name, values in found.items()} == DIMENSIONS


def test_one_note_has_features_and_large_intervals_count_as_the_largest() -> None:
    found = symbolic_features(notes_of(midi_of([(0, 1, 60, 80)]), "a.mid"))
    assert not found["melody.intervals"].any()
    assert not found["harmony.vertical-intervals"].any()
    assert found["dynamics.change"] == 0
    assert all(np.isfinite(values).all() for values in found.values())
    found = symbolic_features(notes_of(midi_of([(0, 1, 20, 80), (1, 1, 100, 80), (2, 1, 76, 80)]), "a.mid"))
    assert found["melody.intervals"][24] == 1


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_vertical_intervals_and_polyphony_are_those_of_loops_over_frames(seed: int) -> None:
    notes = random_notes(seed, 12)
    first_n = np.round((notes.start_s_n - notes.start_s_n[0]) * 50)
    end_n = np.maximum(np.round((notes.end_s_n - notes.start_s_n[0]) * 50), first_n + 1)
    counts, sounding = np.zeros(12), []
    for frame in range(int(end_n.max())):
        there = notes.pitch_n[(first_n <= frame) & (frame < end_n)]
        sounding.append(len(there))
        for one, other in combinations(there, 2):
            counts[abs(one - other) % 12] += 1
    found = symbolic_features(notes)
    np.testing.assert_allclose(found["harmony.vertical-intervals"], counts / max(counts.sum(), 1))
    np.testing.assert_allclose(
        [found["texture.polyphony"][0], found["texture.polyphony-spread"][0]], [np.mean(sounding), np.std(sounding)]
    )


def test_another_key_turns_pitch_classes_and_changes_nothing_else() -> None:
    notes = random_notes(3)
    found, moved = symbolic_features(notes), symbolic_features(replace(notes, pitch_n=notes.pitch_n + 5))
    np.testing.assert_allclose(np.roll(found.pop("harmony.pitch-classes"), 5), moved.pop("harmony.pitch-classes"))
    for name, values in found.items():
        np.testing.assert_allclose(values, moved[name], err_msg=name)
