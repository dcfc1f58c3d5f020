"""Descriptions of notes: shifts of key and time change nothing, and each number by its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.evidence.composition import (
    PARTS,
    PROGRESSION_FRAMES,
    composition_parts,
    harmony,
    pitch_classes,
    progressions,
    rhythm,
)
from lumina_ray.evidence.spectra import LOWEST_PITCH, N_PITCHES


def chroma(seed: int, T: int = 201) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.5, size=(T, 12))


@given(st.integers(0, 1000), st.integers(0, 11), st.integers(0, 200))
def test_harmony_knows_neither_key_nor_beginning(seed: int, semitones: int, frames: int) -> None:
    original = chroma(seed)
    moved = np.roll(np.roll(original, semitones, axis=1), frames, axis=0)
    np.testing.assert_allclose(harmony(moved), harmony(original), rtol=1e-6, atol=1e-6)


@given(st.integers(0, 1000), st.integers(0, 11), st.floats(0.01, 100))
def test_progressions_know_neither_key_nor_level(seed: int, semitones: int, gain: float) -> None:
    original = chroma(seed)
    np.testing.assert_allclose(
        progressions(gain * np.roll(original, semitones, axis=1)), progressions(original), rtol=1e-5, atol=1e-5
    )


def test_harmony_by_its_definition() -> None:
    centred_TP = chroma(0, T=30) - chroma(0, T=30).mean()
    t, p = np.arange(30), np.arange(12)
    for f, g in ((0, 1), (3, 0), (5, 6), (19, 2)):
        wave = np.exp(-2j * np.pi * (f * t[:, None] / 30 + g * p / 12))
        assert harmony(chroma(0, T=30))[7 * f + g] == pytest.approx(np.sqrt(abs((centred_TP * wave).sum())), abs=1e-6)


def test_a_progression_is_counted_at_its_interval() -> None:
    """Each pitch class goes on to the fifth above it: only interval 7 varies around no circle, and is larger."""
    steps = np.repeat(np.arange(24) * 7 % 12, PROGRESSION_FRAMES)
    by_interval = progressions(np.eye(12)[steps]).reshape(12, 7)
    assert by_interval[:, 0].argmax() == 7
    np.testing.assert_allclose(np.delete(by_interval[:, 1:], [0, 7], axis=0), 0, atol=1e-6)


def test_rhythm_is_highest_where_notes_begin() -> None:
    """A note every 0.5 s is 2 onsets a second."""
    pitches_TJ = np.full((201, N_PITCHES), 1e-4, np.float32)
    for begin in range(0, 201, 10):
        pitches_TJ[begin : begin + 5, 30] = 1
    bins = rhythm(pitches_TJ)
    edges = np.geomspace(0.4, 8, 49)
    strongest = [i for i in range(48) if edges[i] <= 2 * 1.06 and edges[i + 1] >= 2 / 1.06]
    assert bins[:30].argmax() in strongest
    assert bins.mean() == pytest.approx(0, abs=1e-12)


def test_pitch_classes_add_octaves() -> None:
    pitches_TJ = np.zeros((3, N_PITCHES), np.float32)
    pitches_TJ[:, [60 - LOWEST_PITCH, 72 - LOWEST_PITCH, 69 - LOWEST_PITCH]] = 4
    np.testing.assert_allclose(pitch_classes(pitches_TJ)[0], [4, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_notes_and_one_chord_give_finite_numbers(value: float) -> None:
    parts = composition_parts(np.full((201, N_PITCHES), value, np.float32))
    assert {name: len(numbers) for name, numbers in parts.items()} == PARTS
    assert all(np.isfinite(numbers).all() for numbers in parts.values())
