"""Damaged audio files, the same ones for the same number."""

import functools
import io
from collections.abc import Callable

import numpy as np
import soundfile

from tests.serve.conftest import sound

FORMATS = {
    "wav": ("WAV", "PCM_16", 32_000, 1),
    "wav of floats": ("WAV", "FLOAT", 44_100, 2),
    "flac": ("FLAC", "PCM_16", 44_100, 2),
    "flac of 24 bits": ("FLAC", "PCM_24", 32_000, 1),
    "mp3": ("MP3", None, 44_100, 2),
    "ogg": ("OGG", "VORBIS", 44_100, 2),
    "ogg with opus": ("OGG", "OPUS", 48_000, 1),
}
_DURATION_S = 1.5
# Where headers and the first frames are.
_HEAD_BYTES = 512


@functools.cache
def real_file(name: str) -> bytes:
    """A file as an encoder writes it."""
    container, subtype, rate_hz, channels = FORMATS[name]
    samples = np.stack([sound(seed, _DURATION_S) for seed in range(channels)], axis=1)
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def mutated_file(number: int) -> bytes:
    """One of any number of damaged files: a real one, after one to three mutations."""
    rng = np.random.default_rng([422024, number])
    data = bytearray(real_file(str(rng.choice(list(FORMATS)))))
    for _ in range(rng.integers(1, 4)):
        if data:
            MUTATIONS[str(rng.choice(list(MUTATIONS)))](data, rng)
    return bytes(data)


def _head(data: bytearray, rng: np.random.Generator) -> None:
    _overwrite(data, rng, min(len(data), _HEAD_BYTES), int(rng.integers(1, 9)))


def _body(data: bytearray, rng: np.random.Generator) -> None:
    _overwrite(data, rng, len(data), int(rng.integers(1, 200)))


def _overwrite(data: bytearray, rng: np.random.Generator, end: int, n: int) -> None:
    for at in rng.integers(0, end, n):
        data[at] = rng.integers(0, 256)


def _extreme(data: bytearray, rng: np.random.Generator) -> None:
    """Where a length, a rate or a count may stand."""
    value = [b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00"][rng.integers(5)]
    at = int(rng.integers(0, min(len(data), _HEAD_BYTES)))
    data[at : at + 4] = value


def _truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(0, len(data))) :]


def _splice(data: bytearray, rng: np.random.Generator) -> None:
    other = real_file(str(rng.choice(list(FORMATS))))
    data[int(rng.integers(0, len(data))) :] = other[int(rng.integers(0, len(other))) :]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    begin = int(rng.integers(0, len(data)))
    piece = bytes(data[begin : begin + int(rng.integers(1, 4096))])
    data[begin:begin] = piece * int(rng.integers(1, 64))


def _insert(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, len(data)))
    data[at:at] = rng.bytes(int(rng.integers(1, 256)))


MUTATIONS: dict[str, Callable[[bytearray, np.random.Generator], None]] = {
    "head": _head,
    "body": _body,
    "extreme": _extreme,
    "truncate": _truncate,
    "splice": _splice,
    "repeat": _repeat,
    "insert": _insert,
}
