"""From files to mono samples at 32 kHz, and from samples to 10-second chunks at one level."""

from lumina_ray.audio.chunk import (
    CHUNK_S,
    GATE_DBFS,
    MIN_SOUND_S,
    MIN_TAIL_S,
    SOUND_DBFS,
    Chunk,
    ChunkedAudio,
    cut_chunks,
    load_chunks,
)
from lumina_ray.audio.decode import MAX_BYTES, Audio, load_audio
from lumina_ray.audio.level import LEVEL_DBFS, frames_of
from lumina_ray.vocabulary import MAX_DURATION_S

__all__ = [
    "CHUNK_S",
    "GATE_DBFS",
    "LEVEL_DBFS",
    "MAX_BYTES",
    "MAX_DURATION_S",
    "MIN_SOUND_S",
    "MIN_TAIL_S",
    "SOUND_DBFS",
    "Audio",
    "Chunk",
    "ChunkedAudio",
    "cut_chunks",
    "frames_of",
    "load_audio",
    "load_chunks",
]
