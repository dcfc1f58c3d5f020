from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from lumina_ray.catalog.manifest import write_manifest
from lumina_ray.training.data import aligned_windows, learning_rate, load_songs, random_windows, step_generator


def test_windows_are_pieces_of_songs_and_follow_from_seed_and_step() -> None:
    songs = [np.arange(start, start + 50, dtype=np.float32) for start in (0, 1000)]

    windows_BN = random_windows(songs, 8, 64, step_generator(3, 7))

    assert windows_BN.shape == (64, 8)
    assert torch.equal(windows_BN.diff(dim=1), torch.ones(64, 7))
    assert set((windows_BN[:, 0] // 1000).int().tolist()) == {0, 1}
    assert torch.equal(windows_BN, random_windows(songs, 8, 64, step_generator(3, 7)))
    assert not torch.equal(windows_BN, random_windows(songs, 8, 64, step_generator(3, 8)))


def test_windows_of_codes_keep_their_codebooks() -> None:
    codes_KT = torch.arange(4)[:, None] * 100 + torch.arange(30)

    windows_BKT = random_windows([codes_KT], 10, 2, step_generator(0, 0))

    assert windows_BKT.shape == (2, 4, 10)
    assert torch.equal(windows_BKT // 100, torch.arange(4)[None, :, None].expand(2, 4, 10))


def test_songs_shorter_than_the_window_are_not_drawn() -> None:
    songs = [np.zeros(5, np.float32), np.ones(10, np.float32)]

    assert random_windows(songs, 10, 16, step_generator(0, 0)).min() == 1


def test_no_song_long_enough_says_so_with_both_lengths() -> None:
    with pytest.raises(ValueError, match=r"window of 10; the longest has 5"):
        random_windows([np.zeros(5, np.float32)], 10, 1, step_generator(0, 0))


def test_aligned_windows_follow_each_other_and_the_last_ends_with_the_song() -> None:
    songs = [torch.arange(25), torch.arange(100, 120), torch.arange(200, 205)]

    windows = aligned_windows(songs, 10)

    assert windows.codes_NKT[:, 0].tolist() == [0, 10, 15, 100, 110, 200]
    assert windows.codes_NKT.shape == (6, 10)
    assert windows.songs == [0, 0, 0, 1, 1, 2]
    assert windows.frames == [10, 10, 10, 10, 10, 5]
    assert windows.codes_NKT[5].tolist() == [200, 201, 202, 203, 204, 0, 0, 0, 0, 0], "filled up"


def test_songs_come_with_their_captions(tmp_path: Path) -> None:
    samples = np.full(32_000, 0.25, np.float32)
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", samples, 32_000, subtype="FLOAT")
    rows = {"song_id": list("abc"), "path": ["a.wav", "b.wav", "c.wav"], "caption": ["slow piano", None, " "]}
    write_manifest(pa.table(rows), tmp_path / "songs.parquet")

    songs = load_songs(tmp_path / "songs.parquet")

    assert [song.caption for song in songs] == ["slow piano", None, None]
    assert songs[1].name == str(tmp_path / "b.wav")
    assert np.array_equal(songs[1].samples, samples)
    write_manifest(pa.table(rows).drop_columns("caption"), tmp_path / "plain.parquet")
    assert [song.caption for song in load_songs(tmp_path / "plain.parquet")] == [None] * 3


def test_learning_rate_warms_up_to_its_peak_and_ends_at_a_twentieth() -> None:
    rates = [learning_rate(step, 1000, 1.0) for step in range(1001)]

    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[99] == rates[100] == 1.0
    assert rates[1000] == pytest.approx(0.05)
    assert all(later <= earlier for earlier, later in pairwise(rates[100:]))
