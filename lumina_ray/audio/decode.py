"""Any common audio file → mono float32 at 32 kHz, in bounded memory.

libsndfile (soundfile) reads wav, flac, mp3, ogg and opus; FFmpeg (PyAV) reads the rest, such as m4a. Channels are
averaged here and not by the decoder: FFmpeg's own mono mix is 1.41 times too loud. Resampling is soxr HQ, streamed,
so that an hour of 192 kHz 5.1 costs no more memory than its result.
"""

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from lumina_ray.errors import AudioError, StorageError, StorageRefused
from lumina_ray.storage import Location, RemotePath

SAMPLE_RATE_HZ = 32_000
MAX_DURATION_S = 3_600.0
MAX_BYTES = 2 << 30
MAX_CHANNELS = 64
_BLOCK_FRAMES = 1 << 18
# Containers of recorded audio. Nothing in it is a document that names other files.
FFMPEG_FORMATS = ",".join((
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "caf", "dsf", "dts", "eac3", "flac", "flv", "m4a", "matroska",
    "mov", "mp3", "mp4", "mpeg", "mpegts", "ogg", "tta", "w64", "wav", "webm", "wv",
))  # fmt: skip
# What a file system answers where the path, or its rights, are at fault and not the file system.
_MISSING = {errno.ENOENT: "no such file", errno.ENOTDIR: "no such file"} | {
    number: os.strerror(number).lower() for number in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
}
# A stream that ends this much earlier than its header promises was cut off, not rounded.
_TRUNCATION_TOLERANCE = 0.02


@dataclass(frozen=True)
class Audio:
    """Decoded audio.

    Attributes:
        samples: float32 `[n]`, mono, 32 kHz, finite.
        sha256: hash of the encoded file, the identity of the recording in reports.
    """

    samples: np.ndarray
    sha256: str

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


def load_audio(
    source: Location | str | bytes,
    *,
    name: str | None = None,
    max_duration_s: float = MAX_DURATION_S,
    max_bytes: int = MAX_BYTES,
) -> Audio:
    """Decode one file, or the bytes of one, to mono 32 kHz.

    Args:
        source: a path, a place in a bucket (the object is read into memory), or the encoded bytes themselves.
        name: what to call the audio in error messages; defaults to the path.
        max_duration_s: longer audio is refused, from the header where it tells and while decoding where not.
        max_bytes: larger files are refused unread.

    Raises:
        AudioError: missing, not a file, empty, not audio, truncated, too long, too large, or with NaN or infinite
            samples. Silence is no error here: `split_chunks` decides on it.
        StorageError: a bucket or a file system does not answer, which says nothing of the audio.
    """
    if isinstance(source, RemotePath):
        source, name = _fetch(source, name or str(source), max_bytes), name or str(source)
    if isinstance(source, bytes):
        label = name or "upload"
        _check_size(len(source), label, max_bytes)
        sha256 = hashlib.sha256(source).hexdigest()
    else:
        label = name or str(source)
        # All of it, before anything decodes: libsndfile takes a file system that fails for the end of the file.
        sha256 = _read_sha256(Path(source), label, max_bytes)

    try:
        samples = _decode_sndfile(source, label, max_duration_s)
    except soundfile.LibsndfileError as sndfile_error:
        try:
            samples = _decode_ffmpeg(source, label, max_duration_s)
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as ffmpeg_error:
            raise AudioError(
                "audio.undecodable",
                f"{label}: neither libsndfile ({sndfile_error.error_string}) nor FFmpeg ({ffmpeg_error}) "
                "can read it as audio; re-encode it, for example as FLAC",
            ) from ffmpeg_error
    if len(samples) == 0:
        raise AudioError("audio.empty", f"{label}: the file is well formed but holds no audio frames")
    return Audio(samples=samples, sha256=sha256)


def _read_sha256(path: Path, label: str, max_bytes: int) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("audio.not_a_file", f"{label}: is a directory or device, not an audio file")
        _check_size(status.st_size, label, max_bytes)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if error.errno in _MISSING:
            raise AudioError("audio.missing", f"{label}: {_MISSING[error.errno]}; check the path") from error
        raise StorageError(f"{label}: cannot be read ({error.strerror}); try again, or check its disk") from error


def _check_size(size: int, label: str, max_bytes: int) -> None:
    if size == 0:
        raise AudioError("audio.empty", f"{label}: the file has 0 bytes; fetch it again")
    if size > max_bytes:
        raise AudioError("audio.too_large", f"{label}: {size} bytes, more than the limit of {max_bytes}")


def _fetch(source: RemotePath, label: str, max_bytes: int) -> bytes:
    try:
        size = source.stat().st_size
        if size > max_bytes:
            raise AudioError("audio.too_large", f"{label}: {size} bytes, more than the limit of {max_bytes}")
        return source.read_bytes()
    except FileNotFoundError:
        raise AudioError("audio.missing", f"{label}: no such object; check the address") from None
    except StorageRefused as error:
        raise AudioError("audio.missing", str(error)) from error


def _decode_sndfile(source: Path | str | bytes, label: str, max_duration_s: float) -> np.ndarray:
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    with soundfile.SoundFile(handle) as file:
        _check_channels(file.channels, label)
        expected_s = file.frames / file.samplerate
        _check_duration(expected_s, label, max_duration_s)

        def blocks() -> Iterator[np.ndarray]:
            # Not `file.blocks`: it trusts the header's length and hands out stale frames past a truncated end.
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                yield block.mean(axis=1, dtype=np.float32)

        samples = _resample(blocks(), file.samplerate, label, max_duration_s)
    if len(samples) / SAMPLE_RATE_HZ < expected_s * (1 - _TRUNCATION_TOLERANCE) - 0.1:
        raise AudioError(
            "audio.undecodable",
            f"{label}: truncated: the header promises {expected_s:.1f} s, "
            f"{len(samples) / SAMPLE_RATE_HZ:.1f} s could be decoded; fetch it again",
        )
    return samples


def _decode_ffmpeg(source: Path | str | bytes, label: str, max_duration_s: float) -> np.ndarray:
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    # FFmpeg may read these bytes and nothing that they name: without this, a playlist, a concat script or a session
    # description makes it open files and addresses of its author's choosing.
    protocol = "pipe" if isinstance(source, bytes) else "file"
    options = {"protocol_whitelist": protocol, "format_whitelist": FFMPEG_FORMATS}
    with av.open(handle, options=options, metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise AudioError("audio.undecodable", f"{label}: holds no audio stream")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError("audio.undecodable", f"{label}: its audio stream is of a codec that FFmpeg does not know")
        if stream.duration and stream.time_base:
            _check_duration(float(stream.duration * stream.time_base), label, max_duration_s)
        _check_channels(stream.channels, label)
        rate_hz = stream.rate
        if not rate_hz:
            raise AudioError("audio.undecodable", f"{label}: its audio stream has no sample rate")
        planar = av.AudioResampler(format="fltp", rate=rate_hz)

        def blocks() -> Iterator[np.ndarray]:
            for frame in container.decode(stream):
                for converted in planar.resample(frame):
                    yield converted.to_ndarray().mean(axis=0, dtype=np.float32)

        return _resample(blocks(), rate_hz, label, max_duration_s)


def _resample(blocks: Iterator[np.ndarray], rate_hz: int, label: str, max_duration_s: float) -> np.ndarray:
    stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    parts: list[np.ndarray] = []
    frames_in = 0
    for block in blocks:
        frames_in += len(block)
        _check_duration(frames_in / rate_hz, label, max_duration_s)
        if not np.isfinite(block).all():
            at_s = (frames_in - len(block) + int(np.argmin(np.isfinite(block)))) / rate_hz
            raise AudioError(
                "audio.not_finite", f"{label}: NaN or infinite sample at {at_s:.3f} s; export the audio again"
            )
        parts.append(stream.resample_chunk(block) if rate_hz != SAMPLE_RATE_HZ else block)
    if rate_hz != SAMPLE_RATE_HZ:
        parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _check_channels(channels: int, label: str) -> None:
    # A block of a thousand silent channels takes a gigabyte, and its file next to nothing.
    if channels > MAX_CHANNELS:
        raise AudioError(
            "audio.undecodable", f"{label}: {channels} channels, more than the limit of {MAX_CHANNELS}; mix them down"
        )


def _check_duration(duration_s: float, label: str, max_duration_s: float) -> None:
    if duration_s > max_duration_s:
        raise AudioError(
            "audio.too_long",
            f"{label}: at least {duration_s:.0f} s, more than the limit of {max_duration_s:.0f} s; "
            "cut it into songs, or raise the limit",
        )
