"""Predictions against what they predict: chunker, batcher, files on disk, and a schedule that is played out."""

import heapq
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.fixed_time import FixedTimeWorker
from benchmarks.overhead import CHUNKS_PER_SONG, songs_with_codes
from lumina_ray.audio import cut_chunks
from lumina_ray.errors import AudioError
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.store import store_schema
from lumina_ray.store.forecast import Resources, chunk_songs, count_batches, predict_duration, store_bytes
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, Representation, SongCodes
from tests.tiny_model import tiny_music_model

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("duration_s", [0.5, 1, 3, 4.9, 5, 9.99, 10, 12, 14.9999, 15, 20, 27.3, 40, 45.01])
def test_chunks_are_those_of_the_chunker(duration_s: float) -> None:
    samples = RNG.standard_normal(round(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)
    try:
        expected = cut_chunks(samples)
    except AudioError:
        expected = []
    found = chunk_songs(np.array([duration_s]))
    assert found.chunks.tolist() == [len(expected)]
    assert found.kept_s[0] == pytest.approx(sum(chunk.duration_s for chunk in expected))


def test_a_song_that_is_too_long_fails_and_costs_nothing() -> None:
    assert chunk_songs(np.array([3600, 3600.1])).chunks.tolist() == [360, 0]


class Counting(Fingerprinter):
    """The batcher alone: counts batches and computes nothing."""

    def __init__(self, chunks_in_flight: int) -> None:
        self.chunks_in_flight = chunks_in_flight
        self.model = SimpleNamespace(representation=Representation("codes", 4, 2048))  # type: ignore[assignment]
        self.batches = 0

    def _add(self, batch) -> None:
        self.batches += 1
        for song, i in batch:
            if i == len(song.chunks) - 1:
                song.directions = "made"

    def _finish(self, song, directions):
        return directions


@pytest.mark.parametrize("chunks_in_flight", [1, 2, 5, 24])
@pytest.mark.parametrize("songs_at_once", [1, 4, 16])
def test_batches_are_those_of_the_batcher(chunks_in_flight: int, songs_at_once: int) -> None:
    counts = RNG.integers(1, 40, 37).tolist()
    real = Counting(chunks_in_flight)
    chunk = np.zeros((4, 500), np.uint16)
    songs = [SongCodes((chunk,) * n, (0.0,) * n) for n in counts]
    for first in range(0, len(songs), songs_at_once):
        assert len(list(real.many(songs[first : first + songs_at_once]))) == len(songs[first : first + songs_at_once])
    assert count_batches(counts, chunks_in_flight, songs_at_once) == real.batches


def play(compute_s: np.ndarray, decode_s: np.ndarray, resources: Resources) -> float:
    """Every block in turn to the decoder that is free first, then to the worker that is."""
    decoders, workers = [0.0] * resources.decoders, [0.0] * resources.workers
    decoded = sorted((heapq.heapreplace(decoders, decoders[0] + d) + d, i) for i, d in enumerate(decode_s))
    for at_s, i in decoded:
        heapq.heapreplace(workers, max(workers[0], at_s) + compute_s[i])
    return max(workers)


@pytest.mark.parametrize("ratio", [0.01, 0.2, 1.0, 3.0])
@pytest.mark.parametrize(("workers", "decoders"), [(1, 1), (2, 1), (8, 3), (64, 32)])
def test_the_schedule_that_is_played_out_lies_in_the_span(workers: int, decoders: int, ratio: float) -> None:
    """With nothing uncertain but the schedule itself."""
    resources = Resources(workers, decoders, cpus=10**6, shared=False)
    for n_blocks in (1, 10, 500):
        compute_s = RNG.uniform(10, 100, n_blocks)
        decode_s = ratio * compute_s
        predicted = predict_duration(compute_s, decode_s, resources, start_s=7.0, spread=0.0)
        truth_s = 7.0 + play(compute_s * (1 + 1 / 64), decode_s, resources)
        assert predicted.total.low <= truth_s <= predicted.total.high
        assert predicted.limit == ("decoders" if ratio / decoders > (1 + 1 / 64) / workers else "workers")


def test_workers_on_processors_share_them_with_decoding() -> None:
    """Two workers and a decoder on two processors: 30 s of computing and 10 s of decoding take 20 s."""
    compute_s, decode_s = np.full(30, 64 / 65), np.full(30, 1 / 3)
    predicted = predict_duration(compute_s, decode_s, Resources(2, 1, 2.0, shared=True), start_s=0.0, spread=0.0)
    assert predicted.limit == "processors"
    assert predicted.steady_s == pytest.approx(20)


@pytest.mark.parametrize("songs_per_file", [1, 4, 16])
@pytest.mark.parametrize("kind", ["stats", "influence"])
def test_bytes_are_those_of_files(songs_per_file: int, kind, tmp_path: Path) -> None:
    model = tiny_music_model()
    specification = Specification.for_model(model, kind)
    songs = songs_with_codes(4 * songs_per_file)
    worker = FixedTimeWorker(schema=store_schema(specification), song_s=0.0)
    for first in range(0, len(songs), songs_per_file):
        made = worker(songs.slice(first, songs_per_file))
        pq.write_table(made, tmp_path / f"{first}.parquet", use_dictionary=False, write_statistics=False)
        pq.write_table(made.select(["song_id"]), tmp_path / f"record of {first}.parquet")
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    kept_s = np.full(len(songs), 10.0 * CHUNKS_PER_SONG)
    predicted = store_bytes(kept_s, specification, songs_per_file)
    assert predicted == pytest.approx(written, rel=0.03)


def test_a_span_is_positive_however_unsteady_the_machine_was() -> None:
    resources = Resources(1, 1, cpus=2.0, shared=True)
    predicted = predict_duration(np.full(4, 5.0), np.zeros(4), resources, start_s=10.0, spread=3.0)
    assert 0 < predicted.total.low < predicted.total.expected < predicted.total.high
