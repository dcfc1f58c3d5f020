"""Predictions of a job's time and size: arithmetic on the songs' durations and on the measured time of a batch.

This module measures nothing and looks at no machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lumina_ray.audio import CHUNK_S, MAX_DURATION_S, MIN_TAIL_S
from lumina_ray.audio.chunk import MIN_SOUND_S
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

# Measured on stores of 1 to 16 songs a file: bytes of a file besides its songs (footer, commit record), and of a song
# besides its codes and vectors (id, path, title, hashes, lists).
_BYTES_PER_FILE = 6_200
_BYTES_PER_SONG = 300
_BYTES_PER_NUMBER = 4
_BYTES_PER_SAMPLE = _BYTES_PER_CODE = 2
# Of each chunk's shared evidence: 272 numbers of its notes and 32 of its sound, in half precision.
_BYTES_OF_EVIDENCE = 2 * (272 + 32)
# Frame rate of MusicGen's codec.
_FRAMES_PER_S = 50
# Fraction of the songs that workers compute again, as a check.
_SPOT_CHECKED = 1 / 64

Limit = Literal["workers", "decoders", "processors"]


@dataclass(frozen=True)
class Chunked:
    """Chunks of songs that are fingerprinted, if none of them is silent.

    Attributes:
        chunks: int64 `[N]`, number of chunks; 0 where a song is too short or too long.
        kept_s: float64 `[N]`, seconds of audio in those chunks.
    """

    chunks: np.ndarray
    kept_s: np.ndarray


@dataclass(frozen=True)
class Resources:
    """Resources of a job: workers with a model each, songs decoded at once, processors.

    Attributes:
        shared: True where workers compute on the same processors that decode.
    """

    workers: int
    decoders: int
    cpus: float
    shared: bool


@dataclass(frozen=True)
class Span:
    """A prediction, and the interval in which the truth is expected."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Duration:
    """Predicted duration of a job, in seconds.

    Attributes:
        total: from start to end.
        steady_s: the part in which everything is busy.
        limit: the scarcest resource of that part.
    """

    total: Span
    steady_s: float
    limit: Limit


def chunk_songs(durations_s: np.ndarray) -> Chunked:
    """Count the chunks of songs from their durations, float64 `[N]` in seconds; see `cut_chunks`."""
    samples = np.round(np.asarray(durations_s, np.float64) * SAMPLE_RATE_HZ).astype(np.int64)
    size = round(CHUNK_S * SAMPLE_RATE_HZ)
    full, tail = np.divmod(samples, size)
    tail_counts = (tail > 0) & ((full == 0) | (tail >= MIN_TAIL_S * SAMPLE_RATE_HZ))
    usable = (samples >= MIN_SOUND_S * SAMPLE_RATE_HZ) & (samples <= MAX_DURATION_S * SAMPLE_RATE_HZ)
    chunks = np.where(usable, full + tail_counts, 0)
    kept = np.where(usable, full * size + tail_counts * tail, 0)
    return Chunked(chunks, kept / SAMPLE_RATE_HZ)


def count_batches(chunks: Sequence[int], chunks_in_flight: int, songs_at_once: int) -> int:
    """Count the batches of a worker's model.

    A song is split over two batches only where it must be; see `Fingerprinter.many`.

    Args:
        chunks: number of chunks of each song, in order.
        chunks_in_flight: chunks in a batch.
        songs_at_once: songs that the worker gets at a time.
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
    """Predict how long blocks of songs take that are decoded and then computed, each by the next free process.

    The scarcest of workers, decoders and processors sets the pace. The start comes before that, with the first
    block's decoding. In the end, up to one block is computed while everything else is idle (Graham's bound).

    Args:
        compute_s, decode_s: float64 `[blocks]`, seconds of one worker and of one decoder for each block.
        start_s: seconds until the workers have their models.
        spread: relative error of the measurements; they may be off by the factor 1 + spread either way.
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
    """Bytes of decoded audio on its way to a worker."""
    return round(duration_s * SAMPLE_RATE_HZ) * _BYTES_PER_SAMPLE


def code_bytes(kept_s: float, n_rows: int = 4) -> int:
    """Bytes of the codes of so many seconds of audio; of latents at most, as they may have fewer frames.

    Args:
        kept_s: seconds.
        n_rows: codebooks, or rows of latents.
    """
    return _BYTES_PER_CODE * n_rows * round(kept_s * _FRAMES_PER_S)


def store_bytes(kept_s: np.ndarray, specification: Specification, songs_per_file: int) -> int:
    """Bytes of a store on disk; codes and vectors do not compress.

    Args:
        kept_s: float64 `[N]`, seconds of each song that have codes.
        songs_per_file: songs that are committed at once.
    """
    n = len(kept_s)
    codes = code_bytes(float(kept_s.sum()), len(specification.codebook_weights))
    vectors = _BYTES_PER_NUMBER * sum(specification.dims.values()) * np.count_nonzero(kept_s)
    evidence = _BYTES_OF_EVIDENCE * int(np.ceil(np.asarray(kept_s) / CHUNK_S).sum())
    return int(codes + vectors + evidence + n * _BYTES_PER_SONG + -(-n // songs_per_file) * _BYTES_PER_FILE)
