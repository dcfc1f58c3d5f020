"""A bank's training as a replay: the model that it ends with is the bank's, to the bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lumina_ray.replay.record import record
from lumina_ray.replay.reverse import group_losses
from lumina_ray.training.captions import vocabulary
from lumina_ray.truth.models import Start, TextParts, new_model, trained, weights_of
from lumina_ray.truth.queries import Query, losses
from lumina_ray.truth.recipe import SMALL, Training
from lumina_ray.truth.replayed import as_group, removal_agreement, replayable
from tests.training.synthetic import patterned_codes
from tests.truth.small_bank import small_bank

RECIPE = replace(SMALL, n_layers=1, dim=32, epochs=2.0)
CAPTIONS = ("slow organ, bells", "fast guitar", "slow organ", "medium bells, drums")


@pytest.fixture(scope="module")
def codes() -> list[Tensor]:
    return [patterned_codes(seed, n, 512) for seed, n in enumerate((60, 60, 30, 60))]


@pytest.fixture(scope="module")
def start() -> Start:
    text = TextParts(tuple(vocabulary(CAPTIONS)))
    return Start(weights_of(new_model(RECIPE, text=text)), text, CAPTIONS)


def test_the_replay_is_the_banks_training(tmp_path: Path, codes: list[Tensor], start: Start) -> None:
    training = Training("half", (0, 3), 5, (1,))
    *_, (_, model) = trained(RECIPE, training, codes, start)
    found = replayable(RECIPE, training, codes, start)
    assert (found.songs, found.weights_N) == ((0, 1, 3), (1.0, 0.0, 1.0))
    record(found.training, tmp_path / "run", found.weights_N)
    own = found.training.weights().half()
    expected = torch.cat([tensor.flatten() for tensor in weights_of(model).values()])
    assert torch.equal(own, expected)


def test_groups_have_the_losses_that_the_bank_asks_for(codes: list[Tensor], start: Start) -> None:
    queries = [
        Query("excerpt", "A", 0, "dev", codes[0]),
        Query("captioned", "A", -1, "dev", codes[2], caption="fast guitar"),
    ]
    found = replayable(RECIPE, Training("A", (0, 1), 5), codes, start)
    model = new_model(RECIPE, text=start.text)
    model.model.decoder.load_state_dict({name: tensor.float() for name, tensor in start.weights.items()})
    expected_QK = losses(model, [query.codes_KT for query in queries], [query.caption for query in queries])
    groups = [as_group(queries), *(as_group([query], k) for query in queries for k in (None, 2))]
    own = group_losses(found.training, groups)
    wanted = [expected_QK.mean(), *(x for row_K in expected_QK for x in (row_K.mean(), row_K[2]))]
    assert own == pytest.approx(wanted, abs=2e-6)


def test_agreement_is_perfect_where_effects_are_linear_and_none_where_they_are_anothers() -> None:
    """Losses that are sums of songs' effects, whatever each query's mean is, and half of them elsewhere."""
    rng = np.random.default_rng(0)
    n_songs, songs = 12, tuple(range(100, 112))
    effects_QN = rng.normal(size=(3, n_songs))
    drawn = [tuple(sorted(rng.choice(songs, 4, replace=False).tolist())) for _ in range(20)]
    trainings = [
        Training("A", songs, 5),
        *(Training(f"tenth-{n:03}", tuple(s for s in songs if s not in gone), 5, gone) for n, gone in enumerate(drawn)),
        Training("again-tenth-000", songs[1:], 6, songs[:1]),
    ]
    lost_RQ = np.stack([effects_QN[:, [s - 100 for s in training.removed]].sum(axis=1) for training in trainings])
    losses_RQ = 5 + np.arange(3) + 2 * lost_RQ
    losses_RQK = np.stack([losses_RQ - 0.5, losses_RQ + 0.5], axis=2).astype(np.float32)
    bank = small_bank(RECIPE, trainings=trainings, losses_RQK=losses_RQK)
    columns = [[0], [1, 2]]
    derivatives_QN = -np.stack([effects_QN[0], effects_QN[1:].mean(axis=0)])
    found = removal_agreement(bank, "tenth-", columns, songs, derivatives_QN)
    assert found.models == 20
    assert (found.r, found.rank, found.slope) == pytest.approx((1.0, 1.0, 2.0), abs=1e-5)
    wrong = removal_agreement(bank, "tenth-", columns, songs, derivatives_QN[:, rng.permutation(n_songs)])
    assert abs(wrong.r) < 0.7
    assert wrong.rank < 0.7
