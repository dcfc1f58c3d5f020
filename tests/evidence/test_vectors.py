"""Evidence of chunks of plain synthetic music: what changes it, and what does not."""

import numpy as np
import pytest

from lumina_ray.evidence.vectors import DIMS, SPEEDS, evidence_vectors, query_vectors
from lumina_ray.vocabulary import EVIDENCE, SAMPLE_RATE_HZ

MELODY = (60, 64, 67, 72, 69, 65, 62, 67, 71, 67, 64, 60, 62, 65, 69, 74, 72, 67, 64, 60)
OTHER = (55, 55, 58, 55, 62, 60, 58, 57, 54, 57, 62, 57, 55, 63, 62, 60, 58, 57, 55, 50)


def play(melody: tuple[int, ...], overtones: tuple[float, ...], semitones: int = 0, gain: float = 1.0) -> np.ndarray:
    """Notes of 0.5 s that die away, int16 `[320 000]`."""
    n = SAMPLE_RATE_HZ // 2
    seconds = np.arange(n) / SAMPLE_RATE_HZ
    out = []
    for pitch in melody:
        hz = 440 * 2 ** ((pitch + semitones - 69) / 12)
        waves = [a * np.sin(2 * np.pi * hz * k * seconds) for k, a in enumerate(overtones, start=1)]
        out.append(np.sum(waves, axis=0) * np.exp(-3 * seconds))
    samples = np.concatenate(out)
    return np.rint(gain * 0.5 * samples / np.abs(samples).max() * 32_767).astype(np.int16)


SOFT, BRIGHT = (1.0, 0.2, 0.05), (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def cosine(evidence: str, one: np.ndarray, other: np.ndarray) -> float:
    return float(evidence_vectors(one)[evidence] @ evidence_vectors(other)[evidence])


def test_vectors_have_length_1_and_are_the_same_each_time() -> None:
    one, again = (evidence_vectors(play(MELODY, SOFT)) for _ in range(2))
    for name in EVIDENCE:
        assert one[name].shape == (DIMS[name],)
        assert one[name].dtype == np.float32
        assert np.linalg.norm(one[name]) == pytest.approx(1, abs=1e-6)
        np.testing.assert_array_equal(one[name], again[name])


def test_composition_follows_notes_and_sound_follows_sound() -> None:
    asked = play(MELODY, SOFT)
    same_notes, same_sound = play(MELODY, BRIGHT), play(OTHER, SOFT)
    assert cosine("composition", asked, same_notes) > cosine("composition", asked, same_sound) + 0.2
    assert cosine("sound", asked, same_sound) > cosine("sound", asked, same_notes) + 0.2


@pytest.mark.parametrize("semitones", [-5, 2, 7])
def test_composition_does_not_depend_on_the_key(semitones: int) -> None:
    asked = play(MELODY, SOFT)
    assert cosine("composition", asked, play(MELODY, SOFT, semitones)) > 0.9
    assert cosine("composition", asked, play(OTHER, SOFT, semitones)) < 0.7


def test_6_db_change_next_to_nothing() -> None:
    for name in EVIDENCE:
        assert cosine(name, play(MELODY, SOFT), play(MELODY, SOFT, gain=0.5)) > 0.98


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_short_chunks_and_noise_have_evidence_too(seconds: float) -> None:
    n = round(seconds * SAMPLE_RATE_HZ)
    noise = np.random.default_rng(0).integers(-3000, 3000, n).astype(np.int16)
    for samples in (play(MELODY, SOFT)[:n], noise, np.ones(n, np.int16)):
        for name, vector in evidence_vectors(samples).items():
            assert np.isfinite(vector).all(), name


def test_a_query_at_another_speed_is_described_as_the_song_is() -> None:
    """Played 12 % faster, as a record is: higher too."""
    song = play(MELODY, SOFT)
    faster = np.interp(np.arange(len(song)) * 1.12, np.arange(2 * len(song)), np.tile(song, 2)).astype(np.int16)
    own = evidence_vectors(song)["composition"]
    by_speed = query_vectors(faster)["composition"] @ own
    assert SPEEDS[int(by_speed.argmax())] == pytest.approx(1.12, rel=0.01)
    assert by_speed.max() > evidence_vectors(faster)["composition"] @ own + 0.05


def test_a_query_asks_at_the_song_s_own_speed_first() -> None:
    asked, found = query_vectors(play(MELODY, SOFT)), evidence_vectors(play(MELODY, SOFT))
    for name in EVIDENCE:
        np.testing.assert_array_equal(asked[name][0], found[name])
