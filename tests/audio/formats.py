"""Audio files of every format that an encoder on this machine can write."""

import functools
import io
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

RATE_HZ = 44_100
DURATION_S = 3.0


def music(channels: int = 2, duration_s: float = DURATION_S, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """A tone and some noise in every channel, as float32 `[n, channels]`."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    tones = [0.3 * np.sin(2 * np.pi * 440 * (1 + channel / 3) * t) for channel in range(channels)]
    return (np.stack(tones, axis=1) + rng.normal(size=(len(t), channels)) * 0.02).astype(np.float32)


def with_sndfile(samples: np.ndarray, container: str, subtype: str | None, rate_hz: int = RATE_HZ) -> bytes:
    """Encode with libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


class _Pipe(io.RawIOBase):
    """A file that can only be appended to, as a pipe."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written += bytes(data)
        return len(data)


def with_ffmpeg(
    streams: list[np.ndarray],
    container: str,
    codec: str,
    *,
    rate_hz: int = RATE_HZ,
    default: int | None = None,
    piped: bool = False,
    layout: str | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Encode with FFmpeg: one or several streams, into a file or a pipe."""
    if not piped:
        # A real file: FFmpeg reads some of its files again when it ends them.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x"
            _encode(str(path), streams, container, codec, rate_hz, default, layout, options)
            return path.read_bytes()
    pipe = _Pipe()
    _encode(pipe, streams, container, codec, rate_hz, default, layout, options)
    return bytes(pipe.written)


def _encode(
    file: "str | _Pipe",
    streams: list[np.ndarray],
    container: str,
    codec: str,
    rate_hz: int,
    default: int | None,
    layout: str | None,
    options: dict[str, str] | None,
) -> None:
    with av.open(file, "w", format=container, options=options or {}) as output:
        outputs = []
        for number, samples in enumerate(streams):
            layout_of = layout or ("mono" if samples.shape[1] == 1 else "stereo" if samples.shape[1] == 2 else "5.1")
            stream = output.add_stream(codec, rate=rate_hz, layout=layout_of)
            stream.bit_rate = 128_000
            if default is not None:
                flag = av.stream.Disposition.default
                stream.disposition = flag if number == default else av.stream.Disposition(0)
            outputs.append((stream, samples, layout_of))
        output.start_encoding()
        for stream, samples, layout_of in outputs:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout_of)
            frame.rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
            size = stream.codec_context.frame_size or 4096
            resampler = av.AudioResampler(
                format=stream.codec_context.format, layout=layout_of, rate=rate_hz, frame_size=size
            )
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(piece))
            output.mux(stream.encode(None))


def _sndfile(container: str, subtype: str | None = None) -> Callable[[], bytes]:
    return lambda: with_sndfile(music(), container, subtype)


def _ffmpeg(container: str, codec: str, **how: object) -> Callable[[], bytes]:
    return lambda: with_ffmpeg([music()], container, codec, **how)  # type: ignore[arg-type]


# Files that say in some way how long they are.
PROMISING: dict[str, Callable[[], bytes]] = {
    "wav": _sndfile("WAV", "PCM_16"),
    "wav 24": _sndfile("WAV", "PCM_24"),
    "wav float": _sndfile("WAV", "FLOAT"),
    "wav a-law": _sndfile("WAV", "ALAW"),
    "wav adpcm": _sndfile("WAV", "MS_ADPCM"),
    "wavex": _sndfile("WAVEX", "PCM_16"),
    "rf64": _sndfile("RF64", "PCM_16"),
    "w64": _sndfile("W64", "PCM_16"),
    "aiff": _sndfile("AIFF", "PCM_16"),
    "aifc": _sndfile("AIFF", "FLOAT"),
    "au": _sndfile("AU", "PCM_16"),
    "caf": _sndfile("CAF", "PCM_16"),
    "caf alac": _sndfile("CAF", "ALAC_16"),
    "flac": _sndfile("FLAC", "PCM_16"),
    "flac 24": _sndfile("FLAC", "PCM_24"),
    "mp3": _sndfile("MP3"),
    "ogg": _sndfile("OGG", "VORBIS"),
    "opus": lambda: with_sndfile(music(rate_hz=48_000), "OGG", "OPUS", 48_000),
    "ogg flac": _ffmpeg("ogg", "flac"),
    "m4a": _ffmpeg("ipod", "aac"),
    "m4a faststart": _ffmpeg("ipod", "aac", options={"movflags": "faststart"}),
    "m4a alac": _ffmpeg("ipod", "alac"),
    "mov": _ffmpeg("mov", "pcm_s16le"),
    "mka": _ffmpeg("matroska", "flac"),
    "webm": lambda: with_ffmpeg([music(rate_hz=48_000)], "webm", "libopus", rate_hz=48_000),
    "wma": _ffmpeg("asf", "wmav2"),
    "wavpack": _ffmpeg("wv", "wavpack"),
    "tta": _ffmpeg("tta", "tta"),
    "mp3 of lame": _ffmpeg("mp3", "libmp3lame"),
    "flv": _ffmpeg("flv", "aac"),
}
# Files that do not, and whole files that were written into a pipe.
SILENT: dict[str, Callable[[], bytes]] = {
    "aac": _ffmpeg("adts", "aac"),
    "ac3": _ffmpeg("ac3", "ac3"),
    "eac3": _ffmpeg("eac3", "eac3"),
    "mp2": _ffmpeg("mp2", "mp2"),
    "mpegts": _ffmpeg("mpegts", "aac"),
    "mp3 without a header": _ffmpeg("mp3", "libmp3lame", options={"write_xing": "0"}),
    "piped wav": _ffmpeg("wav", "pcm_s16le", piped=True),
    "piped rf64": _ffmpeg("wav", "pcm_s16le", piped=True, options={"rf64": "always"}),
    "piped w64": _ffmpeg("w64", "pcm_s16le", piped=True),
    "piped au": _ffmpeg("au", "pcm_s16be", piped=True),
    "piped aiff": _ffmpeg("aiff", "pcm_s16be", piped=True),
    "piped caf": _ffmpeg("caf", "pcm_s16be", piped=True),
    "piped flac": _ffmpeg("flac", "flac", piped=True),
    "piped mka": _ffmpeg("matroska", "flac", piped=True),
    "piped m4a": _ffmpeg("mp4", "aac", piped=True, options={"movflags": "frag_keyframe+empty_moov"}),
    "piped wma": _ffmpeg("asf", "wmav2", piped=True),
    "piped wavpack": _ffmpeg("wv", "wavpack", piped=True),
}


@functools.cache
def file_of(name: str) -> bytes:
    """One file of a format."""
    return (PROMISING | SILENT)[name]()
