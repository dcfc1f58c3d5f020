"""Mixing down: mono and ordinary stereo as ever, nothing cancels, and more channels by the standard's weights."""

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.audio import load_audio
from lumina_ray.audio.level import decibels
from lumina_ray.audio.mixdown import Mixdown, layout_of_mask, usual_layout
from tests.audio.formats import RATE_HZ, file_of, music, with_ffmpeg, with_sndfile

FIVE_ONE = ("FL", "FR", "FC", "LFE", "BL", "BR")


def level_of(samples: np.ndarray) -> float:
    return decibels(float(np.mean(np.square(samples, dtype=np.float64))))


def mixed(samples: np.ndarray, layout: tuple[str, ...] | None = None, block: int = 10_000) -> np.ndarray:
    """Mix float32 `[n, channels]` down as a file is, in blocks."""
    layout = layout or usual_layout(samples.shape[1])
    mixdown = Mixdown()
    while True:
        blocks = [samples[at : at + block] for at in range(0, len(samples), block)]
        mono = np.concatenate([mixdown.mix(samples, layout, 1) for samples in blocks])
        if not (instead := mixdown.instead()):
            return mono * np.float32(mixdown.gain)
        mixdown = instead


@pytest.mark.parametrize("name", ["wav", "wav float", "flac", "mp3", "ogg", "aiff"])
def test_ordinary_stereo_has_the_samples_that_it_always_had(name: str, tmp_path) -> None:
    (tmp_path / "x").write_bytes(file_of(name))
    with (tmp_path / "x").open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
        mean = sound.read(dtype="float32", always_2d=True).mean(axis=1, dtype=np.float32)
    before = soxr.ResampleStream(RATE_HZ, 32_000, 1, dtype="float32", quality="HQ").resample_chunk(mean, last=True)
    assert np.array_equal(load_audio(file_of(name)).samples, before)


def test_mono_is_not_changed() -> None:
    samples = music(1, rate_hz=32_000)
    assert np.array_equal(load_audio(with_sndfile(samples, "WAV", "FLOAT", 32_000)).samples, samples[:, 0])


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "m4a"])
def test_inverted_stereo_is_as_loud_as_one_of_its_channels(container: str) -> None:
    left = music(1)
    stereo = np.concatenate([left, -left], axis=1)
    data = with_ffmpeg([stereo], "ipod", "aac") if container == "m4a" else with_sndfile(stereo, container, None)
    assert level_of(load_audio(data).samples) == pytest.approx(level_of(left), abs=0.2)


def test_an_offset_does_not_hide_that_channels_cancel() -> None:
    left = music(1)[:, 0]
    assert np.array_equal(
        mixed(np.stack([left + 0.2, 0.2 - left], 1).astype(np.float32)), (left + 0.2).astype(np.float32)
    )


def test_what_cancels_in_part_is_the_loudest_signal_that_does_not() -> None:
    left, right = music(1, seed=1)[:, 0], music(2, seed=2)[:, 1]
    # Half the difference has more energy than a channel, where the two have nothing else in common.
    assert np.array_equal(mixed(np.stack([left, -left], 1)), left)
    side = mixed(np.stack([left + 0.1 * right, -left + 0.1 * right], 1))
    np.testing.assert_allclose(np.abs(np.dot(side, left) / np.dot(left, left)), 1, atol=0.02)
    # Inverted and half as loud: the mean has lost 8 dB.
    assert np.array_equal(mixed(np.stack([left, -0.5 * left], 1)), left)
    # One channel alone, and two without anything in common, are the mean.
    assert np.array_equal(mixed(np.stack([left, 0 * left], 1)), left / 2)
    assert np.array_equal(mixed(np.stack([left, right], 1)), (left + right) / 2)


def test_more_channels_have_the_weights_of_the_standard() -> None:
    tone = music(1, 0.5)[:, 0]
    for number, weight in enumerate([0.5, 0.5, 0.7071, 0, 0.3536, 0.3536]):
        samples = np.zeros((len(tone), 6), np.float32)
        samples[:, number] = tone
        np.testing.assert_allclose(mixed(samples, FIVE_ONE), weight * tone, atol=1e-4)


@pytest.mark.parametrize("channels", [7, 8, 9, 16])
@pytest.mark.parametrize("container", ["WAV", "AIFF", "CAF"])
def test_many_channels_are_read(container: str, channels: int) -> None:
    tones = np.repeat(music(1, 0.5), channels, axis=1)
    assert load_audio(with_sndfile(tones, container, "PCM_16")).duration_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("container", "order"),
    [
        ("WAV", (0, 1, 2, 3, 4, 5)),
        ("WAVEX", (0, 1, 2, 3, 4, 5)),
        ("FLAC", (0, 1, 2, 3, 4, 5)),
        ("OGG", (0, 2, 1, 5, 3, 4)),
    ],
)
def test_the_centre_is_found_where_the_container_has_it(container: str, order: tuple[int, ...]) -> None:
    """A centre alone is 3 dB quieter, as it is from two loudspeakers, wherever its channel lies."""
    samples = np.zeros((RATE_HZ, 6), np.float32)
    samples[:, order[2]] = music(1, 1.0)[:, 0]
    data = with_sndfile(samples, container, None)
    assert level_of(load_audio(data).samples) == pytest.approx(level_of(music(1, 1.0)) - 3.01, abs=0.3)


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("matroska", "flac"), ("mov", "pcm_s16le")])
def test_the_centre_is_found_by_ffmpeg(container: str, codec: str) -> None:
    samples = np.zeros((RATE_HZ, 6), np.float32)
    samples[:, 2] = music(1, 1.0)[:, 0]
    data = with_ffmpeg([samples], container, codec, layout="5.1")
    assert level_of(load_audio(data).samples) == pytest.approx(level_of(music(1, 1.0)) - 3.01, abs=0.3)


def test_full_scale_in_every_channel_does_not_clip() -> None:
    full = np.ones((1000, 6), np.float32)
    assert np.abs(mixed(full, FIVE_ONE)).max() == pytest.approx(1.0)
    # A file that stays within full scale is not made quieter.
    np.testing.assert_allclose(mixed(0.1 * full, FIVE_ONE), 0.1 * (1 + 2 * 0.7071 + 0), atol=1e-3)


def test_masks_name_the_speakers() -> None:
    assert layout_of_mask(0x3F, 6) == FIVE_ONE
    assert layout_of_mask(0x60F, 6) == ("FL", "FR", "FC", "LFE", "SL", "SR")
    assert layout_of_mask(0x3, 6) == FIVE_ONE
    assert layout_of_mask(None, 12) == ("",) * 12


@given(st.integers(2, 9), st.integers(0, 2**32 - 1), st.integers(1, 3000), st.sampled_from([1.0, -1.0, 0.0]))
def test_blocks_of_any_length_give_the_same_samples(channels: int, seed: int, block: int, second: float) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.normal(size=(2000, channels)) * 0.2).astype(np.float32)
    samples[:, 1] = second * samples[:, 0]
    whole = mixed(samples, block=2000)
    np.testing.assert_allclose(mixed(samples, block=block), whole, atol=1e-7)
    # It is never much quieter than channels that have nothing in common.
    assert np.mean(whole.astype(np.float64) ** 2) > 0
