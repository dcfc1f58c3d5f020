"""Files → mono 32 kHz samples → 10-second chunks."""

from lumina_ray.audio.chunk import CHUNK_S, GATE_DBFS, MIN_TAIL_S, Chunk, rms_dbfs, split_chunks
from lumina_ray.audio.decode import MAX_BYTES, MAX_DURATION_S, SAMPLE_RATE_HZ, Audio, load_audio

__all__ = [
    "CHUNK_S",
    "GATE_DBFS",
    "MAX_BYTES",
    "MAX_DURATION_S",
    "MIN_TAIL_S",
    "SAMPLE_RATE_HZ",
    "Audio",
    "Chunk",
    "load_audio",
    "rms_dbfs",
    "split_chunks",
]
