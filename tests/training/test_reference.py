"""The music that nano's reference model is trained on: none of it is the demo's."""

import random

import numpy as np
import pytest

from lumina_ray.demo.catalog import Performance
from lumina_ray.demo.songs import DemoSong, demo_songs
from lumina_ray.training import reference


def test_no_music_of_the_demo_and_no_composer_of_a_control_is_among_it() -> None:
    songs = reference.scores(seed=0)
    refs = [song.ref for song in songs]
    assert len(set(refs)) == len(refs) > reference.N_SONGS
    assert not set(refs) & {song.ref for song in demo_songs()}
    folders = {ref.split("/")[0] for ref in refs}
    assert folders == {"bach", "monteverdi", "mozart", "palestrina"}
    assert not folders & {song.ref.split("/")[0] for song in demo_songs() if song.part == "controls"}
    assert reference.scores(seed=0) == songs != reference.scores(seed=1)


def test_scores_that_cannot_be_played_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    songs = reference.scores(seed=0)[:5]

    def perform(song: DemoSong, rng: random.Random) -> Performance:
        if song is songs[1]:
            raise ValueError("only 3.0 s sound, 20 s are needed")
        return Performance(np.array([rng.random()]), "music")

    monkeypatch.setattr(reference, "perform", perform)
    played = reference.play(songs, 3, seed=0)
    assert [song.name for song in played] == [songs[i].ref for i in (0, 2, 3)]
    (again,) = reference.play(songs[2:], 1, seed=0)
    np.testing.assert_array_equal(played[1].samples, again.samples)
