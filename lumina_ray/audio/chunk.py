"""Cuts decoded audio into the 10-second chunks that are encoded, at one level, and marks where they hold sound."""

import os
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from lumina_ray.audio.decode import MAX_BYTES, label_of, load_audio
from lumina_ray.audio.level import FRAME_SAMPLES, decibels, find_clicks, frame_powers, level_gain, peak
from lumina_ray.errors import AudioError
from lumina_ray.storage import RemotePath
from lumina_ray.vocabulary import MAX_DURATION_S, SAMPLE_RATE_HZ, AudioStream

CHUNK_S = 10.0
MIN_TAIL_S = 5.0
MIN_SOUND_S = 1.0
"""Shorter songs are refused, and so are songs none of whose chunks has as much sound."""
GATE_DBFS = -50.0
"""A song whose loudest chunk is below this, as it was handed in, is silent."""
SOUND_DBFS = -40.0
"""Frames below this, at the common level, hold no sound."""
_INT16 = 32_767
_CHUNK_SAMPLES = round(CHUNK_S * SAMPLE_RATE_HZ)
# Fraction of the peak.
_NO_OFFSET = 0.05


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of a song, 10 s at most, as the codec gets them.

    Attributes:
        start_s: the chunk's start in the song, in seconds.
        samples: int16 `[n]`, mono, 32 kHz, at the common level, not padded.
        heard: bool `[⌈n/640⌉]`, whether each frame of 20 ms holds sound.
    """

    start_s: float
    samples: np.ndarray
    heard: np.ndarray

    @property
    def duration_s(self) -> float:
        """Length of the chunk, in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class ChunkedAudio:
    """An audio file as it is fingerprinted.

    Attributes:
        sha256: hash of the encoded file; reports identify a recording by it.
        duration_s: length of the whole file, in seconds.
        chunks: what is fingerprinted of it, at least one chunk.
        stream: which one of the file's several audio streams this is; None where it has one.
    """

    sha256: str
    duration_s: float
    chunks: tuple[Chunk, ...]
    stream: AudioStream | None = None


def load_chunks(
    source: str | os.PathLike[str] | RemotePath | bytes,
    *,
    name: str | None = None,
    max_duration_s: float = MAX_DURATION_S,
    max_bytes: int = MAX_BYTES,
) -> ChunkedAudio:
    """Decode one audio file, or the bytes of one, and cut it into chunks.

    Args:
        source, name, max_duration_s, max_bytes: see `load_audio`.

    Raises:
        AudioError: the file cannot be decoded, is too short, or is silent.
        StorageError: a bucket or a file system does not answer.
        UsageError: an address that is none.
    """
    audio = load_audio(source, name=name, max_duration_s=max_duration_s, max_bytes=max_bytes)
    chunks = cut_chunks(audio.samples, label_of(source, name))
    return ChunkedAudio(audio.sha256, audio.duration_s, tuple(chunks), audio.stream)


def cut_chunks(samples: np.ndarray, name: str = "audio") -> list[Chunk]:
    """Bring samples to one level, cut them into consecutive 10 s chunks, and drop what would only add noise.

    - A last chunk under 5 s is dropped where the song has a full chunk with sound: an equally weighted short tail moved
      a fingerprint's cosine to 0.66-0.83 in the laboratory.
    - A song is silent where no chunk reaches -50 dBFS as it was handed in, clicks left out: the level of noise is not
      raised to that of music.
    - A frame holds sound where it has -40 dBFS or more at the common level. Whatever is quieter, hiss and the ends of
      notes alike, becomes the same few codes in all songs. A chunk with less than 1 s of sound is dropped.

    Args:
        samples: float32 `[n]`, mono, 32 kHz, all finite.
        name: the audio's name in error messages.

    Raises:
        AudioError: the audio is shorter than 1 s ("audio.empty"), or without sound ("audio.silent").
    """
    if len(samples) < MIN_SOUND_S * SAMPLE_RATE_HZ:
        raise AudioError(
            "audio.empty", f"{name}: {len(samples) / SAMPLE_RATE_HZ:.2f} s of audio; at least {MIN_SOUND_S} s is needed"
        )
    tail = len(samples) % _CHUNK_SAMPLES
    if 0 < tail < min(MIN_TAIL_S * SAMPLE_RATE_HZ, len(samples)):
        # All of its sound may be in the tail.
        with suppress(AudioError):
            return _cut(samples[:-tail], name)
    return _cut(samples, name)


def _cut(samples: np.ndarray, name: str) -> list[Chunk]:
    offset = samples.mean(dtype=np.float64)
    if abs(offset) > _NO_OFFSET * peak(samples):
        # Otherwise it would take the room that the level needs.
        samples = samples - np.float32(offset)
    powers_T = frame_powers(samples)
    n_frames = _CHUNK_SAMPLES // FRAME_SAMPLES
    per_chunk = [powers_T[i : i + n_frames] for i in range(0, len(powers_T), n_frames)]
    music_T = np.where(find_clicks(samples), 0.0, powers_T)
    loudest = max(decibels(float(music_T[i : i + n_frames].mean())) for i in range(0, len(powers_T), n_frames))
    if loudest < GATE_DBFS:
        raise AudioError(
            "audio.silent",
            f"{name}: silent: its loudest chunk has {loudest:.1f} dBFS RMS above 20 Hz, below the gate of "
            f"{GATE_DBFS:.0f} dBFS",
        )
    gain = level_gain(samples, powers_T)
    gate = 10 ** (SOUND_DBFS / 10) / gain**2
    chunks = [
        Chunk(begin / SAMPLE_RATE_HZ, _as_int16(samples[begin : begin + _CHUNK_SAMPLES], gain), powers >= gate)
        for begin, powers in zip(range(0, len(samples), _CHUNK_SAMPLES), per_chunk, strict=True)
        if np.count_nonzero(powers >= gate) * FRAME_SAMPLES >= MIN_SOUND_S * SAMPLE_RATE_HZ
    ]
    if not chunks:
        raise AudioError(
            "audio.silent",
            f"{name}: silent but for moments: no chunk of {CHUNK_S:.0f} s holds {MIN_SOUND_S} s of sound",
        )
    return chunks


def _as_int16(samples: np.ndarray, gain: float) -> np.ndarray:
    # Half the bytes on their way to the model, and 96 dB below full scale nothing is lost.
    return np.rint(np.clip(samples * np.float64(gain * _INT16), -_INT16, _INT16)).astype(np.int16)
