"""Places of queries' own songs: those that effects are laid down for."""

import numpy as np
import pytest
import torch

from benchmarks.own_songs import own_songs
from lumina_ray.demo.songs import demo_songs
from lumina_ray.truth.corpus import Recording
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL, Training
from tests.truth.small_bank import small_bank


def test_own_songs_are_ranked_by_what_leaving_them_out_does() -> None:
    songs = (0, 1, 2, 3)
    recordings = tuple(Recording(work, "cell", "instruments-3", "A") for work in demo_songs()[:4])
    codes = [torch.zeros((4, 6), dtype=torch.int64) for _ in recordings]
    queries = [
        Query("excerpt", "A", 0, "test", codes[0]),
        Query("excerpt", "A", 1, "test", codes[1]),
        Query("excerpt", "A", 2, "dev", codes[2]),
    ]
    trainings = [
        Training("A", songs, 5),
        *(Training(f"single-{i:03}", tuple(s for s in songs if s != i), 5, (i,)) for i in songs),
    ]
    losses_RQK = np.full((5, 3, 4), 5.0)
    losses_RQK[1:, 0] += np.array([4.0, 1.0, 2.0, 3.0])[:, None]
    losses_RQK[1:, 1] += np.array([4.0, 2.0, 1.0, 3.0])[:, None]
    bank = small_bank(SMALL, recordings, codes, queries, trainings=trainings, losses_RQK=losses_RQK.astype(np.float32))
    found = own_songs(bank, "excerpt", "test")
    assert found is not None
    assert found.ranks == (1, 3)
    assert found.first.value == 0.5
    assert found.median_effect == pytest.approx(3 / np.std([1, 2, 3, 4]), rel=1e-4)
    assert own_songs(bank, "prompted", "test") is None
