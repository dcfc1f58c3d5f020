"""Bad and odd files: each is read right or refused with the file, the cause and the fix."""

import errno
import os
from pathlib import Path
from unittest import mock

import av
import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from lumina_ray.audio import load_audio
from lumina_ray.errors import AudioError, LuminaError, StorageError, UsageError
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


def tone(seconds: float, rate_hz: int, channels: int = 1, frequency_hz: float = 440.0) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([0.3 * np.sin(2 * np.pi * frequency_hz * t)] * channels, axis=1).astype(np.float32)


def encode_with_ffmpeg(path: Path, samples: np.ndarray, rate_hz: int, codec: str, bit_rate: int = 128_000) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="stereo")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.rate = rate_hz
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="stereo", rate=rate_hz, frame_size=1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus"])
def test_every_common_format_has_the_same_length_and_level(tmp_path: Path, suffix: str) -> None:
    rate_hz = 48_000
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(2.0, rate_hz, 2), rate_hz, format="OGG" if suffix == "opus" else None,
                    subtype="OPUS" if suffix == "opus" else None)  # fmt: skip
    audio = load_audio(path)
    assert audio.samples.dtype == np.float32
    assert abs(audio.duration_s - 2.0) < 0.06
    middle = audio.samples[len(audio.samples) // 4 : -len(audio.samples) // 4]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_m4a_through_ffmpeg_keeps_the_level_of_the_mean_of_its_channels(tmp_path: Path) -> None:
    path = tmp_path / "tone.m4a"
    left = tone(2.0, 44_100, 1)
    encode_with_ffmpeg(path, np.concatenate([left, np.zeros_like(left)], axis=1), 44_100, "aac")
    middle = load_audio(path).samples[16_000:48_000]
    # The mono level is half of one channel's level; FFmpeg's own mono mix would give 0.707 of it.
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.15 / np.sqrt(2), rel=0.03)


def test_multichannel_high_rate_file_is_mixed_down_and_resampled(tmp_path: Path) -> None:
    rate_hz = 192_000
    samples = tone(1.5, rate_hz, 6)
    samples[:, 3:] = 0
    path = tmp_path / "surround.flac"
    soundfile.write(path, samples, rate_hz, subtype="PCM_24")
    ours = load_audio(path).samples
    # Left and right have half each, and the centre 3 dB more.
    independent = resample_poly((samples[:, 0].astype(np.float64) * (0.5 + 0.5 + np.sqrt(0.5))), 1, 6)
    assert len(ours) == round(1.5 * SAMPLE_RATE_HZ)
    np.testing.assert_allclose(ours[2000:-2000], independent[2000:-2000], atol=2e-3)


def test_8_khz_mono_is_upsampled(tmp_path: Path) -> None:
    path = tmp_path / "phone.wav"
    soundfile.write(path, tone(3.0, 8_000), 8_000)
    audio = load_audio(path)
    assert len(audio.samples) == 3 * SAMPLE_RATE_HZ
    spectrum = np.abs(np.fft.rfft(audio.samples * np.hanning(len(audio.samples))))
    assert np.argmax(spectrum) * SAMPLE_RATE_HZ / len(audio.samples) == pytest.approx(440, abs=1)


def test_32_khz_mono_passes_through_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 40_000).astype(np.float32)
    path = tmp_path / "same.wav"
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    assert np.array_equal(load_audio(path).samples, samples)


class _Named:
    """A path of another library: all that it has in common with `Path` is `__fspath__`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def test_bytes_and_every_kind_of_path_give_the_same_audio(tmp_path: Path) -> None:
    path = tmp_path / "tone.mp3"
    soundfile.write(path, tone(2.0, 44_100), 44_100)
    from_path, from_bytes = load_audio(path), load_audio(path.read_bytes())
    assert from_path.sha256 == from_bytes.sha256
    assert np.array_equal(from_path.samples, from_bytes.samples)
    for source in (str(path), _Named(path)):
        assert np.array_equal(load_audio(source).samples, from_path.samples)


def test_an_address_outside_buckets_gets_an_error_that_says_what_is_allowed() -> None:
    with pytest.raises(UsageError, match="neither a path nor an address in a bucket"):
        load_audio("https://host/song.wav")


def broken_text(path: Path) -> None:
    path.write_text("These are the lyrics, not the song. " * 50)


def broken_empty(path: Path) -> None:
    path.touch()


def broken_directory(path: Path) -> None:
    path.mkdir()


def broken_missing(path: Path) -> None:
    pass


def broken_nan(path: Path) -> None:
    samples = tone(2.0, 32_000)
    samples[12_345] = np.nan
    soundfile.write(path, samples, 32_000, subtype="FLOAT")


def broken_no_frames(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 1)), 32_000)


def broken_truncated_mp3(path: Path) -> None:
    whole = path.with_suffix(".mp3")
    soundfile.write(whole, np.random.default_rng(0).normal(size=44_100 * 20) * 0.1, 44_100)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])


def broken_playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n")


def broken_concat(path: Path) -> None:
    soundfile.write(path.with_name("secret.wav"), tone(2.0, 32_000), 32_000)
    path.write_text("ffconcat version 1.0\nfile secret.wav\n")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (broken_text, "audio.undecodable"),
        (broken_empty, "audio.empty"),
        (broken_directory, "audio.not_a_file"),
        (broken_missing, "audio.missing"),
        (broken_nan, "audio.not_finite"),
        (broken_no_frames, "audio.empty"),
        (broken_truncated_mp3, "audio.truncated"),
        (broken_playlist, "audio.undecodable"),
        (broken_concat, "audio.undecodable"),
    ],
)
def test_bad_files_say_what_is_wrong_with_which_file(tmp_path: Path, make, kind: str) -> None:
    path = tmp_path / "björk & co.wav"
    make(path)
    with pytest.raises(AudioError) as caught:
        load_audio(path)
    assert caught.value.code == kind
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300, "loop", "tone.wav/inside"])
def test_a_path_that_no_file_can_have_is_a_missing_file(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "tone.wav", tone(2.0, 32_000), 32_000)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AudioError, match="check the path") as caught:
        load_audio(tmp_path / name)
    assert caught.value.code == "audio.missing"


@pytest.mark.parametrize(("where", "number", "raised"), [
    ("pathlib.Path.stat", errno.EACCES, AudioError),
    ("hashlib.file_digest", errno.EACCES, AudioError),
    ("pathlib.Path.stat", errno.ESTALE, StorageError),
    ("hashlib.file_digest", errno.EIO, StorageError),
])  # fmt: skip
def test_a_file_system_that_fails_is_not_the_files_fault_and_one_that_forbids_is(
    tmp_path: Path, where: str, number: int, raised: type[LuminaError]
) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(2.0, 32_000), 32_000)
    reason = rf"tone\.wav: .*{os.strerror(number)}"
    with (
        mock.patch(where, side_effect=OSError(number, os.strerror(number))),
        pytest.raises(raised, match=f"(?i){reason}"),
    ):
        load_audio(path)


def test_three_hours_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
        for _ in range(3):
            file.write(np.zeros(3600 * 8_000, np.int16))
    with pytest.raises(AudioError, match="more than the limit of 3600 s") as caught:
        load_audio(path)
    assert caught.value.code == "audio.too_long"


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "many.wav", np.zeros((32_000, 65), np.float32), 32_000)
    with pytest.raises(AudioError, match=r"many\.wav: 65 channels, more than the limit of 64") as caught:
        load_audio(tmp_path / "many.wav")
    assert caught.value.code == "audio.undecodable"


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(2.0, 32_000), 32_000)
    with pytest.raises(AudioError) as caught:
        load_audio(path, max_bytes=1000)
    assert caught.value.code == "audio.too_large"
