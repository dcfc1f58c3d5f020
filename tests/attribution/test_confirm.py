"""Confirmation by forgetting: ranks among random songs, and the standard error from halves of the query."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lumina_ray.attribution.confirm import (
    confirm,
    draw_random_songs,
    half_sample_error,
    halves_of,
)
from lumina_ray.errors import UnlearningError, UsageError
from lumina_ray.model import MusicModel, open_model
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import rises
from lumina_ray.unlearning.unlearn import Forgetting
from lumina_ray.vocabulary import SongCodes
from tests.unlearning.test_unlearn import bits, some_songs

HOW = Forgetting(damping=0.1)


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MusicModel:
    opened = open_model(str(tiny_model_dir))
    with torch.no_grad():
        for weights in opened.heads():
            weights.mul_(8)
    return opened


def test_the_song_itself_is_first_and_ranks_are_those_of_its_effects(model: MusicModel) -> None:
    songs = {f"song-{i:02}": codes for i, codes in enumerate(some_songs(12, frames=220))}
    fisher = fisher_diagonal(model, songs.values())
    before, query = bits(model), songs["song-03"]
    listed = {"P": ["song-01", "song-03"], "M": ["song-03"]}
    random_songs = draw_random_songs(list(songs), ["song-01", "song-03"], query.sha256, 8)
    assert len(set(random_songs) - {"song-01", "song-03"}) == 8
    found = confirm(model, fisher, query, listed, random_songs, songs, HOW)  # type: ignore[arg-type]
    assert bits(model) == before
    own = [song for song in found.songs if song.song_id == "song-03"]
    assert [(song.channel, song.listed_rank, song.rank) for song in own] == [("P", 2, 1), ("M", 1, 1)]
    assert [song.p_value for song in own] == [1 / 9, 1 / 9]
    ids = ["song-01", "song-03", *random_songs]
    expected, _ = rises(model, query, [songs[i] for i in ids], [code_losses(model, songs[i]) for i in ids], fisher, HOW)
    of_p = expected.of("plain", "P")
    assert found.songs[0].effect_nats == pytest.approx(of_p[0])
    assert found.songs[0].rank == 1 + (of_p > of_p[0]).sum()
    assert found.random_mean_nats["P"] == pytest.approx(of_p[2:].mean())
    assert all(song.noise_nats is not None and song.noise_nats > 0 for song in found.songs)
    assert found.repeats == 4
    again = confirm(model, fisher, query, listed, random_songs, songs, HOW)  # type: ignore[arg-type]
    assert again == found


def test_halves_are_complementary_and_follow_from_the_codes() -> None:
    (query,) = some_songs(1, frames=430)
    query = replace(query, heard=(np.arange(430) >= 50,))
    halves = halves_of(query)
    assert len(halves) == 4
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert not (one.heard[0] & other.heard[0]).any()
        together = one.heard[0] | other.heard[0]
        # The last block has 30 frames, more than half of one; the first holds no sound.
        np.testing.assert_array_equal(together, query.heard[0])
        assert abs(int(one.heard[0].sum()) - int(other.heard[0].sum())) <= 50
    assert [half.sha256 for half in halves_of(query)] == [half.sha256 for half in halves]
    assert halves_of(some_songs(1, frames=120)[0]) == []


def test_error_from_halves_is_the_standard_error_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    x_nN = rng.normal(size=(60, 400)) * np.linspace(1, 5, 400)
    halves = []
    for _ in range(50):
        order = rng.permutation(60)
        halves += [x_nN[order[:30]].mean(axis=0), x_nN[order[30:]].mean(axis=0)]
    expected = x_nN.std(axis=0, ddof=1) / np.sqrt(60)
    np.testing.assert_allclose(half_sample_error(np.array(halves)) / expected, 1, atol=0.5)
    assert np.mean(half_sample_error(np.array(halves)) / expected) == pytest.approx(1, abs=0.03)


def test_nothing_to_compare_with_or_to_forget(model: MusicModel) -> None:
    songs = dict(zip("ab", some_songs(2), strict=True))
    fisher = fisher_diagonal(model, songs.values())
    with pytest.raises(UsageError, match="no songs besides"):
        confirm(model, fisher, songs["a"], {"P": ["a"]}, [], songs, HOW)
    silent = SongCodes(songs["a"].chunks, (0.0,), (np.zeros(40, bool),))
    with pytest.raises(UnlearningError, match="nothing is heard"):
        confirm(model, fisher, silent, {"P": ["a"]}, ["b"], songs, HOW)
    found = confirm(model, fisher, songs["a"], {"P": ["a"]}, ["b"], songs, HOW)
    assert found.songs[0].noise_nats is None
