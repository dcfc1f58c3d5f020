"""Decodes any common audio file to mono float32 at 32 kHz, in bounded memory.

A file's content decides how it is read, never its name: `lumina_ray.audio.containers` finds its parts, and checks them
against what the file promises of its length. libsndfile (soundfile) reads wav, aiff, au, caf, w64, flac, mp3, ogg and
opus. FFmpeg (PyAV) reads the rest, such as m4a, and more than two channels, as it knows which speakers they are for.
Channels are mixed here and not by the decoder, because FFmpeg's own mono mix is 1.41 times too loud. soxr resamples in
HQ quality and block by block, so that an hour of 5.1 sound at 192 kHz takes no more memory than the result.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np
import soundfile
import soxr

from lumina_ray.audio.containers import Format, Part, StreamInfo, examine, require_rate, truncated
from lumina_ray.audio.ffmpeg import default_stream, open_ffmpeg, stated_s
from lumina_ray.audio.mixdown import Layout, Mixdown, layout_of_mask, usual_layout
from lumina_ray.audio.source import open_source
from lumina_ray.audio.timeline import Timeline
from lumina_ray.errors import AudioError
from lumina_ray.storage import RemotePath, locate
from lumina_ray.vocabulary import MAX_DURATION_S, SAMPLE_RATE_HZ, AudioStream

MAX_BYTES = 2 << 30
MAX_CHANNELS = 64
# As far as the number of a FLAC frame goes.
_FLAC_HEAD_BYTES = 11
_BLOCK_FRAMES = 1 << 18
# Encoders pad the beginning and the end; FFmpeg leaves the padding out, and not every container counts it.
_TOLERANCE_S = 0.25
# libsndfile gives a length of this size where it knows none.
_UNKNOWN_FRAMES = 1 << 50
# A stream whose every sample is below −60 dB of full scale has no sound in it.
_SOUND = 1e-3
# Each takes a decoding of the whole file.
MAX_STREAMS = 16


@dataclass(frozen=True)
class Audio:
    """Decoded audio.

    Attributes:
        samples: float32 `[n]`, mono, 32 kHz, all finite.
        sha256: hash of the encoded file; reports identify a recording by it.
        stream: which one this is of a file's several audio streams, and why; None where the file has one.
    """

    samples: np.ndarray
    sha256: str
    stream: AudioStream | None = None

    @property
    def duration_s(self) -> float:
        """Length of the audio, in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


class _Block(NamedTuple):
    """Decoded samples of all channels, which lie along `axis`."""

    samples: np.ndarray
    axis: int
    layout: Layout
    rate_hz: int


def label_of(source: str | os.PathLike[str] | RemotePath | bytes, name: str | None = None) -> str:
    """The name of audio in error messages."""
    # A name of bytes that are no UTF-8 could not be printed.
    return (name or ("upload" if isinstance(source, bytes) else str(source))).encode(errors="backslashreplace").decode()


def load_audio(
    source: str | os.PathLike[str] | RemotePath | bytes,
    *,
    name: str | None = None,
    max_duration_s: float = MAX_DURATION_S,
    max_bytes: int = MAX_BYTES,
) -> Audio:
    """Decode one audio file, or the bytes of one, to mono float32 at 32 kHz.

    Args:
        source: a path, an address in a bucket (the object is read into memory), or the encoded bytes themselves.
        name: the audio's name in error messages; by default its path. It decides nothing else.
        max_duration_s: longer audio is refused, before decoding where the file tells its length.
        max_bytes: larger files are refused before they are read.

    Raises:
        AudioError: the file is missing, not a file, empty, not audio, less than it promises, too long or too large, or
            it has NaN or infinite samples. Silence is no error here; `cut_chunks` refuses it.
        StorageError: a bucket or a file system does not answer, which says nothing about the audio.
        UsageError: an address that is neither a path nor in a bucket (`lumina_ray.storage.locate`).
    """
    place = source if isinstance(source, bytes) else locate(source)
    label = label_of(place, name)
    with open_source(place, label, max_bytes) as (view, sha256):
        samples, stream = _Decoder(*examine(view, label), label, max_duration_s).decode()
    if len(samples) == 0:
        raise AudioError("audio.empty", f"{label}: the file is well formed but holds no audio frames")
    return Audio(samples, sha256, stream)


@dataclass(frozen=True)
class _Decoder:
    """Decodes the parts of one file."""

    format: Format
    parts: list[Part]
    label: str
    max_duration_s: float

    def decode(self) -> tuple[np.ndarray, AudioStream | None]:
        """The file's samples, and which of several streams they are of."""
        self._check_duration(sum(part.duration_s or 0.0 for part in self.parts))
        count, default = 1, None
        if len(self.parts) == 1 and not self.parts[0].sndfile:
            with open_ffmpeg(self.parts[0].view, self.format, self.label) as container:
                count, default = len(container.streams.audio), default_stream(container)
        if count == 1:
            return self._mixed(0), None
        if default is not None:
            return self._mixed(default), AudioStream(default + 1, count, "default")
        for number in range(min(count, MAX_STREAMS)):
            samples = self._mixed(number)
            if len(samples) and np.abs(samples).max() > _SOUND:
                return samples, AudioStream(number + 1, count, "first_with_sound")
        if count > MAX_STREAMS:
            raise AudioError(
                "audio.undecodable",
                f"{self.label}: none of its {count} audio streams is the default, and the first {MAX_STREAMS} have no "
                "sound; mark one as the default, or keep one alone",
            )
        return self._mixed(0), AudioStream(1, count, "no_sound")

    def _mixed(self, stream: int) -> np.ndarray:
        mixdown = Mixdown()
        samples = self._resampled(stream, mixdown)
        if instead := mixdown.instead():
            del samples
            mixdown = instead
            samples = self._resampled(stream, mixdown)
        if mixdown.gain != 1:
            samples *= np.float32(mixdown.gain)
        return samples

    def _resampled(self, stream: int, mixdown: Mixdown) -> np.ndarray:
        """Decode and mix down, and resample each stretch of one sample rate at its own."""
        pieces: list[np.ndarray] = []
        elapsed_s = 0.0
        resampler: soxr.ResampleStream | None = None
        for part in self.parts:
            rate_hz = 0
            for block in self._blocks(part, stream):
                if block.rate_hz != rate_hz:
                    pieces += _rest(resampler)
                    rate_hz = block.rate_hz
                    resampler = None
                    if rate_hz != SAMPLE_RATE_HZ:
                        resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
                mono = mixdown.mix(block.samples, block.layout, block.axis)
                began_s, elapsed_s = elapsed_s, elapsed_s + len(mono) / rate_hz
                self._check_duration(elapsed_s)
                if not np.isfinite(mono).all():
                    at_s = began_s + int(np.argmin(np.isfinite(mono))) / rate_hz
                    raise AudioError(
                        "audio.not_finite",
                        f"{self.label}: NaN or infinite sample at {at_s:.3f} s; export the audio again",
                    )
                pieces.append(resampler.resample_chunk(mono) if resampler else mono)
        pieces += _rest(resampler)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def _blocks(self, part: Part, stream: int) -> Iterator[_Block]:
        """Decode a part with the library that reads it."""
        refused = ""
        # libsndfile cannot read FLAC that does not say how long it is.
        if part.sndfile and not (part.flac and not part.flac.total):
            try:
                file = soundfile.SoundFile(part.view.buffered())
            except soundfile.LibsndfileError as error:
                refused = f"neither libsndfile ({error.error_string}) nor "
            else:
                with file:
                    _check_channels(file.channels, self.label)
                    if part.flac or file.channels <= 2:
                        yield from _sndfile_blocks(file, part, self.label)
                        return
        with open_ffmpeg(part.view, self.format, self.label, refused) as container:
            yield from _ffmpeg_blocks(container, part, stream, self.label)

    def _check_duration(self, duration_s: float) -> None:
        if duration_s > self.max_duration_s:
            raise AudioError(
                "audio.too_long",
                f"{self.label}: at least {duration_s:.0f} s, more than the limit of {self.max_duration_s:.0f} s; "
                "cut it into songs, or raise the limit",
            )


def _rest(resampler: soxr.ResampleStream | None) -> list[np.ndarray]:
    return [resampler.resample_chunk(np.zeros(0, np.float32), last=True)] if resampler else []


def _sndfile_blocks(file: soundfile.SoundFile, part: Part, label: str) -> Iterator[_Block]:
    layout, rate_hz, found = usual_layout(file.channels), file.samplerate, 0
    require_rate(rate_hz, label)
    promised = file.frames if file.frames < _UNKNOWN_FRAMES else 0
    if part.stated and part.duration_s:
        promised = max(promised, round(part.duration_s * rate_hz))
    check = _FlacCheck(part.flac, label) if part.flac else None
    if part.flac:
        layout = layout_of_mask(part.flac.channel_mask, file.channels)
        promised = 0
    try:
        # `file.blocks` would trust the header's length, and return stale frames past a truncated end.
        while len(block := file.read(_BLOCK_FRAMES, dtype="int32" if check else "float32", always_2d=True)):
            found += len(block)
            if check:
                check.add(block)
                block = block.astype(np.float32) * np.float32(2.0**-31)
            yield _Block(block, 1, layout, rate_hz)
    except soundfile.LibsndfileError as error:
        if check:
            raise truncated(label, check.promise, f"after {found} it is damaged ({error.error_string})") from error
        raise AudioError(
            "audio.undecodable",
            f"{label}: damaged after {found / rate_hz:.1f} s ({error.error_string}); fetch it again",
        ) from error
    if check:
        check.end(found)
    if found < promised - _TOLERANCE_S * rate_hz:
        raise truncated(label, f"its header promises {promised / rate_hz:.1f} s", f"there are {found / rate_hz:.1f} s")


class _FlacCheck:
    """Compares the samples of a FLAC file with their number and their MD5 in its header."""

    def __init__(self, info: StreamInfo, label: str) -> None:
        self._info, self._label = info, label
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._found = self._frames = 0
        self.promise = f"its header promises {info.total} samples" if info.total else "its header promises more"

    def add(self, block: np.ndarray) -> None:
        """Args: int32 `[n, channels]`, whose highest bits are the file's."""
        self._found += len(block)
        if self._info.md5 is None:
            return
        n_bytes = (self._info.bits + 7) // 8
        samples = np.ascontiguousarray(block >> (32 - self._info.bits), "<i4")
        self._md5.update(np.ascontiguousarray(samples.view(np.uint8).reshape(-1, 4)[:, :n_bytes]).data)

    def follow(self, packet: bytes) -> None:
        """Check that an encoded frame is the next one, by its number, where the header does not say how many there are.

        FFmpeg tells no such hole: where it lost its way, it makes up when frames are played.
        """
        if self._info.total or len(packet) < _FLAC_HEAD_BYTES:
            return
        # As UTF-8 has numbers; that of the frame, or of its first sample.
        ones = 8 - (packet[4] ^ 0xFF).bit_length()
        number = packet[4] & 0x7F >> ones
        for byte in packet[5 : 4 + ones]:
            number = number << 6 | byte & 0x3F
        what, expected = ("sample", self._found) if packet[1] & 1 else ("frame", self._frames)
        if number != expected:
            raise truncated(self._label, f"{what} {expected} comes next", f"{what} {number} is there")
        self._frames += 1

    def end(self, found: int) -> None:
        if self._info.total and found != self._info.total:
            raise truncated(self._label, self.promise, f"there are {found}")
        if self._info.md5 and self._md5.digest() != self._info.md5:
            raise truncated(self._label, "its header promises other samples (by their MD5)", "some are damaged")


def _ffmpeg_blocks(container: av.container.InputContainer, part: Part, number: int, label: str) -> Iterator[_Block]:
    stream = container.streams.audio[number]
    if stream.codec_context is None:
        raise AudioError("audio.undecodable", f"{label}: its audio stream is of a codec that FFmpeg does not know")
    _check_channels(stream.channels, label)
    check = _FlacCheck(part.flac, label) if part.flac else None
    timeline = Timeline()
    found, found_s, began_s = 0, 0.0, None
    interleaved, parameters = None, None
    for frame in _frames(container, stream, check):
        if part.timed:
            timeline.add(frame.time, found_s)
        if began_s is None:
            # A recording of something under way counts from when that began.
            began_s = max(frame.time or 0.0, 0.0)
        now = frame.sample_rate, frame.layout.name, frame.format.name
        if interleaved is None or now != parameters:
            _check_channels(frame.layout.nb_channels, label)
            require_rate(frame.sample_rate, label)
            # Of planes, PyAV looks at as many as there are channels and reads past the end of eight.
            interleaved, parameters = av.AudioResampler(format="flt", rate=frame.sample_rate), now
            layout = tuple(channel.name for channel in frame.layout.channels)
            if "NONE" in layout:
                layout = usual_layout(len(layout))
        if check:
            check.add(_integers(frame))
        for converted in interleaved.resample(frame):
            samples = converted.to_ndarray().reshape(-1, len(layout))
            found += len(samples)
            found_s += len(samples) / frame.sample_rate
            yield _Block(samples, 1, layout, frame.sample_rate)
    if check:
        check.end(found)
    if hole := timeline.hole():
        found_there = f"{hole.length_s:.1f} s are missing after {hole.at_s:.1f} s of sound"
        raise truncated(label, "its packets say when they are played", found_there)
    promised_s = stated_s(container, stream)
    if part.stated and len(container.streams) == 1 and promised_s:
        promised_s -= began_s or 0.0
        if found_s < promised_s - _TOLERANCE_S:
            raise truncated(label, f"its header promises {promised_s:.1f} s", f"there are {found_s:.1f} s")


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream, check: "_FlacCheck | None"
) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        if check:
            check.follow(bytes(packet))
        yield from packet.decode()


def _integers(frame: av.AudioFrame) -> np.ndarray:
    """A frame's samples as int32 `[n, channels]`, whose highest bits are the file's."""
    samples = frame.to_ndarray()
    channels = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    return channels.astype(np.int32) << (32 - 8 * frame.format.bytes)


def _check_channels(channels: int, label: str) -> None:
    # A tiny file can hold a thousand silent channels, and one block of them takes a gigabyte of memory.
    if channels > MAX_CHANNELS:
        raise AudioError(
            "audio.undecodable", f"{label}: {channels} channels, more than the limit of {MAX_CHANNELS}; mix them down"
        )
