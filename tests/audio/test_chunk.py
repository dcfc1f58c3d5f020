"""The chunk and tail rule, the gates, and the level of what is encoded."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.audio import cut_chunks, load_audio, load_chunks
from lumina_ray.audio.level import LEVEL_DBFS, frame_powers, frames_of, level_dbfs
from lumina_ray.errors import AudioError
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=round(seconds * SAMPLE_RATE_HZ)) * level).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


@pytest.mark.parametrize(
    ("seconds", "durations_s"),
    [
        (3.0, [3.0]),
        (10.0, [10.0]),
        (14.9, [10.0]),
        (15.0, [10.0, 5.0]),
        (25.5, [10.0, 10.0, 5.5]),
        (30.0, [10.0, 10.0, 10.0]),
        (30.01, [10.0, 10.0, 10.0]),
    ],
)
def test_chunks_have_their_true_length_and_short_tails_go(seconds: float, durations_s: list[float]) -> None:
    chunks = cut_chunks(noise(seconds))
    assert [chunk.duration_s for chunk in chunks] == pytest.approx(durations_s)
    assert [len(chunk.heard) for chunk in chunks] == [frames_of(len(chunk.samples)) for chunk in chunks]


@settings(max_examples=10)
@given(st.floats(1.0, 60.0))
def test_chunks_are_consecutive_slices_of_the_song_at_one_gain(seconds: float) -> None:
    samples = noise(seconds)
    chunks = cut_chunks(samples)
    # int16 full scale, of which the song's level is a tenth.
    gain = 32_767 * 10 ** (LEVEL_DBFS / 20) / 10 ** (level_dbfs(frame_powers(samples)) / 20)
    for i, chunk in enumerate(chunks):
        assert chunk.start_s == 10.0 * i
        start = round(chunk.start_s * SAMPLE_RATE_HZ)
        expected = samples[start : start + len(chunk.samples)].astype(np.float64) * gain
        assert chunk.samples.dtype == np.int16
        assert np.abs(chunk.samples - expected).max() < 0.51 + 0.002 * np.abs(expected).max()
        assert chunk.heard.all()


def test_quiet_chunks_are_left_out_and_the_others_keep_their_place() -> None:
    samples = np.concatenate([noise(10), noise(10, level=0.001), noise(10)])
    assert [chunk.start_s for chunk in cut_chunks(samples)] == [0.0, 20.0]


def test_frames_without_sound_are_marked() -> None:
    samples = np.concatenate([noise(3), silence(4), noise(3)])
    (chunk,) = cut_chunks(samples)
    # The filter that takes away what nobody hears rings for a moment.
    assert chunk.heard[:150].all()
    assert not chunk.heard[160:350].any()
    assert chunk.heard[350:].all()


@settings(max_examples=8)
@given(st.floats(-27, 30))
def test_a_gain_changes_no_mark_and_no_sample_by_more_than_rounding(gain_db: float) -> None:
    samples = np.concatenate([noise(6), silence(5), noise(9, 0.02)])
    copy = (samples * np.float32(10 ** (gain_db / 20))).astype(np.float32)
    for one, other in zip(cut_chunks(samples), cut_chunks(copy), strict=True):
        assert np.array_equal(one.heard, other.heard)
        assert np.abs(one.samples.astype(int) - other.samples).max() <= 1


def test_the_gate_is_judged_before_the_level_is_raised() -> None:
    with pytest.raises(AudioError, match=r"loudest chunk has -6\d\.\d dBFS") as silent:
        cut_chunks(noise(10, level=0.0005), "hiss.wav")
    assert silent.value.code == "audio.silent"


def test_clicks_do_not_make_hiss_music() -> None:
    hiss = noise(10, level=0.0005)
    hiss[[100_000, 200_000]] = 1.0
    with pytest.raises(AudioError, match=r"loudest chunk has -6\d\.\d dBFS"):
        cut_chunks(hiss)


@pytest.mark.parametrize("samples", [silence(20), silence(20) + np.float32(0.7)], ids=["nothing", "constant"])
def test_silence_is_refused_with_the_reason(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match=r"quiet\.wav: silent: its loudest chunk") as silent:
        cut_chunks(samples, "quiet.wav")
    assert silent.value.code == "audio.silent"


def test_what_nobody_can_hear_is_refused() -> None:
    one_hz = np.sin(2 * np.pi * np.arange(5 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ).astype(np.float32)
    with pytest.raises(AudioError, match="above 20 Hz"):
        cut_chunks(one_hz)


def test_an_offset_takes_no_room_from_the_level() -> None:
    music = noise(5, 0.02)
    (plain,), (offset,) = cut_chunks(music), cut_chunks(music + np.float32(0.8))
    assert np.abs(plain.samples.astype(int) - offset.samples).max() <= 10


def test_a_click_in_a_quiet_song_changes_one_frame() -> None:
    quiet = noise(10, 0.004)
    clicked = quiet.copy()
    clicked[100_000] = -1.0
    (plain,), (click,) = cut_chunks(quiet), cut_chunks(clicked)
    assert click.heard.all()
    assert click.samples[100_000] == -32_767
    far = np.abs(np.arange(len(quiet)) - 100_000) > 640
    assert np.abs(plain.samples.astype(int) - click.samples)[far].max() <= 100


def test_a_song_whose_sound_is_all_in_a_short_tail_is_that_tail() -> None:
    (chunk,) = cut_chunks(np.concatenate([silence(10), noise(4)]))
    assert (chunk.start_s, chunk.duration_s) == (10.0, 4.0)


def test_moments_of_sound_are_no_song() -> None:
    blips = np.concatenate([noise(0.5), silence(19.5)])
    with pytest.raises(AudioError, match="silent but for moments") as silent:
        cut_chunks(blips, "blips.wav")
    assert silent.value.code == "audio.silent"


def test_snippets_are_refused_with_the_reason() -> None:
    with pytest.raises(AudioError, match=r"0\.50 s") as short:
        cut_chunks(noise(0.5), "blip.wav")
    assert short.value.code == "audio.empty"


def test_float_files_on_the_scale_of_int16_come_to_the_same_level(tmp_path: Path) -> None:
    samples = noise(4)
    for name, scale in (("one.wav", 1), ("other.wav", 32_768)):
        soundfile.write(tmp_path / name, samples * np.float32(scale), SAMPLE_RATE_HZ, subtype="FLOAT")
    one, other = (load_chunks(tmp_path / name) for name in ("one.wav", "other.wav"))
    assert np.array_equal(one.chunks[0].samples, other.chunks[0].samples)


def test_a_file_keeps_its_hash_and_its_whole_duration(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", noise(12), SAMPLE_RATE_HZ)
    decoded, chunked = load_audio(tmp_path / "song.wav"), load_chunks(tmp_path / "song.wav")
    assert (chunked.sha256, chunked.duration_s) == (decoded.sha256, 12.0)
    assert [chunk.duration_s for chunk in chunked.chunks] == [10.0]
