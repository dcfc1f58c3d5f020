"""What a job will take before it starts: arithmetic on the songs' durations and on what one batch was measured to cost.

Nothing here measures or looks at a machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lumina_ray.audio import CHUNK_S, MAX_DURATION_S, MIN_TAIL_S, SAMPLE_RATE_HZ
from lumina_ray.audio.chunk import MIN_SONG_S
from lumina_ray.fingerprint.specification import Specification

# Measured on stores of 1 to 16 songs a file: what a file has besides its songs (footer, its commit record), and a song
# besides its codes and vectors (id, path, title, hashes, lists).
_BYTES_PER_FILE = 5_300
_BYTES_PER_SONG = 300
_BYTES_PER_SAMPLE = _BYTES_PER_NUMBER = 4
_BYTES_PER_CODE = 2
# Of MusicGen's codec.
_FRAMES_PER_S = 50
# Workers compute one song in so many again.
_SPOT_CHECKED = 1 / 64

Limit = Literal["workers", "decoders", "processors"]


@dataclass(frozen=True)
class Chunked:
    """What is fingerprinted of songs, if none of it is silent.

    Attributes:
        chunks: int64 `[N]`, 0 where a song is too short or too long.
        kept_s: float64 `[N]`, seconds of audio in those chunks.
    """

    chunks: np.ndarray
    kept_s: np.ndarray


@dataclass(frozen=True)
class Resources:
    """What a job runs on: workers with a model each, songs decoded at once, processors.

    Attributes:
        shared: whether workers compute on the processors that decoding needs, too.
    """

    workers: int
    decoders: int
    cpus: float
    shared: bool


@dataclass(frozen=True)
class Span:
    """A prediction, and where the truth is expected."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Duration:
    """How long a job takes, in seconds.

    Attributes:
        total: from start to end.
        steady_s: with everything busy.
        limit: what the steady part is waiting for.
    """

    total: Span
    steady_s: float
    limit: Limit


def chunk_songs(durations_s: np.ndarray) -> Chunked:
    """How songs are cut into chunks, by their durations `[N]`; see `split_chunks`."""
    samples = np.round(np.asarray(durations_s, np.float64) * SAMPLE_RATE_HZ).astype(np.int64)
    size = round(CHUNK_S * SAMPLE_RATE_HZ)
    full, tail = np.divmod(samples, size)
    tail_counts = (tail > 0) & ((full == 0) | (tail >= MIN_TAIL_S * SAMPLE_RATE_HZ))
    usable = (samples >= MIN_SONG_S * SAMPLE_RATE_HZ) & (samples <= MAX_DURATION_S * SAMPLE_RATE_HZ)
    chunks = np.where(usable, full + tail_counts, 0)
    kept = np.where(usable, full * size + tail_counts * tail, 0)
    return Chunked(chunks, kept / SAMPLE_RATE_HZ)


def count_batches(chunks: Sequence[int], chunks_in_flight: int, songs_at_once: int) -> int:
    """Batches that songs of so many chunks go through the model in, when a worker gets so many songs at a time.

    A song is not split that need not be; see `Fingerprinter.many`.
    """
    batches = 0
    for first in range(0, len(chunks), songs_at_once):
        filled = 0
        for n in chunks[first : first + songs_at_once]:
            if filled and filled + n > chunks_in_flight:
                batches, filled = batches + 1, 0
            full, filled = divmod(filled + n, chunks_in_flight)
            batches += full
        batches += filled > 0
    return batches


def predict_duration(
    compute_s: np.ndarray, decode_s: np.ndarray, resources: Resources, start_s: float, spread: float
) -> Duration:
    """How long blocks of songs take that are decoded, then computed, each by whoever is free.

    Whatever is scarcest sets the pace: workers, decoders or processors. The start comes before that, with the first
    block's decoding; and in the end up to one block is at work alone (Graham's bound).

    Args:
        compute_s, decode_s: float64 `[blocks]`, of one worker and one decoder.
        start_s: until the workers have their models.
        spread: how far what was measured may be off, upwards and downwards by the factor 1 + spread.
    """
    compute, decode = compute_s.sum() * (1 + _SPOT_CHECKED), decode_s.sum()
    paces: dict[Limit, float] = {
        "workers": compute / resources.workers,
        "decoders": decode / resources.decoders,
        "processors": (decode + (compute if resources.shared else 0.0)) / resources.cpus,
    }
    limit = max(paces, key=lambda name: paces[name])
    steady_s = float(paces[limit])
    alone_s = float((compute_s + decode_s).max(initial=0.0))
    return Duration(
        Span(
            (start_s + steady_s) / (1 + spread),
            start_s + steady_s + alone_s / 2,
            (start_s + steady_s + alone_s) * (1 + spread),
        ),
        steady_s,
        limit,
    )


def decoded_bytes(duration_s: float) -> int:
    """Of decoded audio on its way to a worker."""
    return round(duration_s * SAMPLE_RATE_HZ) * _BYTES_PER_SAMPLE


def code_bytes(kept_s: float, n_codebooks: int = 4) -> int:
    """Bytes that the codes of so many seconds of audio take."""
    return _BYTES_PER_CODE * n_codebooks * round(kept_s * _FRAMES_PER_S)


def store_bytes(kept_s: np.ndarray, specification: Specification, songs_per_file: int) -> int:
    """Bytes that a store of songs takes on disk; codes and vectors do not compress.

    Args:
        kept_s: float64 `[N]`, seconds of each song that have codes.
        songs_per_file: committed at once.
    """
    n = len(kept_s)
    codes = code_bytes(float(kept_s.sum()), len(specification.codebook_weights))
    vectors = _BYTES_PER_NUMBER * sum(specification.dims.values()) * np.count_nonzero(kept_s)
    return int(codes + vectors + n * _BYTES_PER_SONG + -(-n // songs_per_file) * _BYTES_PER_FILE)
