"""Batches of the model are bounded by seconds of audio, and change no number."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray import serve

from lumina_ray.audio import ChunkedAudio, cut_chunks
from lumina_ray.index import load_snapshot
from serve.deployments import FINGERPRINTER
from serve.fingerprinter import BATCH_TENS, Fingerprinter, tens_of_seconds
from tests.serve.conftest import sound


@pytest.fixture(autouse=True)
def replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray's batches want to know of the replica that they are in."""
    config = SimpleNamespace(max_ongoing_requests=FINGERPRINTER.max_ongoing_requests)
    monkeypatch.setattr(serve, "get_replica_context", lambda: SimpleNamespace(_deployment_config=config))


def song_of(n_chunks: int) -> ChunkedAudio:
    return ChunkedAudio("", 10.0 * n_chunks, tuple(cut_chunks(sound(0))) * n_chunks)


def test_a_batch_holds_a_minute_of_audio_or_one_longer_song() -> None:
    sizes = [2, 3, 1, 1, 60, 1, 6, 6]
    batches: list[list[int]] = []

    @serve.batch(max_batch_size=BATCH_TENS, batch_wait_timeout_s=0, batch_size_fn=tens_of_seconds)
    async def fingerprint(audios: list[ChunkedAudio]) -> list[int]:
        batches.append([len(audio.chunks) for audio in audios])
        return batches[-1]

    async def ask() -> list[int]:
        return await asyncio.gather(*(fingerprint(song_of(n)) for n in sizes))

    assert asyncio.run(ask()) == sizes
    assert sorted(n for batch in batches for n in batch) == sorted(sizes)
    assert batches[0] == [2, 3, 1]
    assert all(sum(batch) <= 6 or batch == [60] for batch in batches)
    # Else Ray warns that a batch could never be filled.
    assert FINGERPRINTER.max_ongoing_requests >= BATCH_TENS


def test_songs_that_come_while_the_model_is_busy_are_batches_of_their_own() -> None:
    batches: list[int] = []

    async def ask() -> None:
        free = asyncio.Event()

        @serve.batch(max_batch_size=BATCH_TENS, batch_wait_timeout_s=0, batch_size_fn=tens_of_seconds)
        async def fingerprint(audios: list[ChunkedAudio]) -> list[ChunkedAudio]:
            batches.append(len(audios))
            await free.wait()
            return audios

        waiting = []
        for n in (2, 1, 1):
            songs = [song_of(1) for _ in range(n)]
            waiting += [asyncio.create_task(fingerprint(song)) for song in songs]
            await asyncio.sleep(0.05)
        assert batches == [2]
        free.set()
        await asyncio.gather(*waiting)

    asyncio.run(ask())
    assert batches == [2, 1, 1]


def test_the_batch_does_not_change_a_fingerprint(model_dir: Path, index_dir: Path) -> None:
    fingerprinter = Fingerprinter(str(model_dir), load_snapshot(index_dir).record.specification, "cpu", 60.0)
    songs = [
        ChunkedAudio("0" * 64, duration_s, tuple(cut_chunks(sound(seed, duration_s))))
        for seed, duration_s in ((1, 5.0), (2, 21.0), (3, 12.5))
    ]
    alone = [fingerprinter._fingerprint(song) for song in songs]

    async def together() -> list:
        return await asyncio.gather(*map(fingerprinter.fingerprint, songs))

    for expected, batched in zip(alone, asyncio.run(together()), strict=True):
        for channel, query in expected.channels.items():
            np.testing.assert_array_equal(batched.channels[channel].vector, query.vector)
            np.testing.assert_array_equal(batched.channels[channel].chunk_vectors, query.chunk_vectors)
