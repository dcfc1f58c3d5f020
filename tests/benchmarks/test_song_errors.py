"""Songs that scores misplace, and how common their codes are."""

import numpy as np
import pytest
import torch

from benchmarks.song_errors import commonness, misplaced
from lumina_ray.truth.recipe import SMALL
from tests.truth.small_bank import small_bank


def test_commonness_is_the_mean_log_count_of_codes_that_are_learned() -> None:
    codes = [torch.zeros((4, 800), dtype=torch.int64), torch.ones((4, 10), dtype=torch.int64)]
    # What follows the part that is learned does not count.
    codes[0][:, 750:] = 2
    bank = small_bank(SMALL, codes=codes)
    assert commonness(bank, [1, 0], [0, 1]) == pytest.approx([np.log(10), np.log(750)])


def test_songs_that_are_ranked_far_from_their_effects_are_named() -> None:
    effects_N = np.arange(12.0)
    scores_N = effects_N.copy()
    scores_N[[0, 11]] = 20.0, -1.0
    low, high = misplaced(scores_N, effects_N)
    assert (low[0], high[0]) == (11, 0)
