"""Effects of single songs by codebook: those that a bank was made with are found again."""

import numpy as np
import pytest
import torch

from benchmarks.codebooks import cell_effects, rank_over_songs, single_effects
from lumina_ray.demo.songs import demo_songs
from lumina_ray.truth.corpus import Recording
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL, Training
from tests.truth.small_bank import small_bank


def test_kin_are_told_apart_by_codebook() -> None:
    """Of two scores by two instruments, score moves the first codebook, and instruments the others."""
    works = demo_songs()[:2]
    recordings = tuple(
        Recording(work, "cell", f"instruments-{i}", side) for side in ("A", "B") for work in works for i in (3, 4)
    )
    songs, rng = (0, 1, 2, 3), np.random.default_rng(0)
    codes = [torch.zeros((4, 6), dtype=torch.int64) for _ in recordings]
    queries = [Query("unheard", "A", i, "test", codes[i]) for i in (4, 5, 6, 7)]
    trainings = [
        Training("A", songs, 5),
        *(Training(f"single-{i:03}", tuple(s for s in songs if s != i), 5, (i,)) for i in songs),
        Training("again-single-000", songs[1:], 6, (0,)),
    ]
    losses_RQK = rng.normal(scale=1e-3, size=(len(trainings), 4, 4)) + 5
    for i in songs:
        for q, query in enumerate(queries):
            one, other = recordings[i], recordings[query.recording]
            losses_RQK[1 + i, q] += [one.work == other.work, *[one.variant == other.variant] * 3]
    bank = small_bank(SMALL, recordings, codes, queries, trainings=trainings, losses_RQK=losses_RQK.astype(np.float32))
    effects_NQK, found = single_effects(bank)
    assert found == list(songs)
    np.testing.assert_allclose(effects_NQK, losses_RQK[1:5] - losses_RQK[0], atol=1e-5)
    kin = cell_effects(bank, effects_NQK, found)
    assert {name: len(pairs) for name, pairs in kin.items()} == {"same score": 8, "same instruments": 4, "neither": 4}
    only_score = kin["same score"][kin["same score"][:, 1] < 0]
    assert len(only_score) == 4
    assert (only_score[:, 0] > 0.5).all()
    assert (kin["same instruments"][:, 1] > 0.5).all()
    assert (kin["same instruments"][:, 0] < 0).all()
    assert (kin["neither"] < 0).all()


def test_ranks_are_over_songs() -> None:
    x_NQ = np.arange(10.0).reshape(5, 2)
    assert rank_over_songs(x_NQ, x_NQ**3) == pytest.approx(1)
    assert rank_over_songs(x_NQ, x_NQ * [1, -1]) == pytest.approx(0)
