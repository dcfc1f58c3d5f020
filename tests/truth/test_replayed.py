"""A bank's training as a replay: the model that it ends with is the bank's, to the bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lumina_ray.errors import StoreError
from lumina_ray.replay.record import record
from lumina_ray.replay.reverse import group_losses
from lumina_ray.training.captions import vocabulary
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.models import Start, TextParts, new_model, trained, weights_of
from lumina_ray.truth.queries import Query, losses
from lumina_ray.truth.recipe import SMALL, Training
from lumina_ray.truth.replayed import (
    ASKED,
    REPLAYED_FILE,
    Replayed,
    Scalar,
    as_group,
    hash_of_asked,
    load_replayed,
    removal_agreement,
    replay_row,
    replayable,
    save_replayed,
    scalars_of,
)
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


def linear_bank(n_queries: int = 9) -> tuple[Bank, np.ndarray]:
    """A bank of halves whose losses are sums of songs' effects, and these: float64 `[Q, N]`; excerpts are first."""
    rng = np.random.default_rng(1)
    songs = tuple(range(12))
    effects_QN = rng.normal(size=(n_queries + 2, 12))
    halves = [tuple(sorted(rng.choice(songs, 6, replace=False).tolist())) for _ in range(16)]
    trainings = [
        Training("A", songs, 5),
        *(Training(f"half-{n:03}", tuple(s for s in songs if s not in gone), 5, gone) for n, gone in enumerate(halves)),
    ]
    lost_RQ = np.stack([effects_QN[:, list(training.removed)].sum(axis=1) for training in trainings])
    codes = [torch.full((4, 6), i) for i in range(n_queries + 2)]
    queries = [Query("excerpt", "A", i, "test", codes[i]) for i in range(n_queries)]
    queries += [
        Query("prompted", "A", 0, "test", codes[-2]),
        Query("continued", "A", 0, "dev", codes[-1]),
    ]
    models = {"A": {"weight": torch.arange(3).half()}}
    losses_RQK = np.repeat((5 + lost_RQ)[:, :, None], 4, axis=2).astype(np.float32)
    return small_bank(RECIPE, queries=queries, models=models, trainings=trainings, losses_RQK=losses_RQK), effects_QN


def test_more_queries_begin_with_those_of_fewer_and_no_split_asks_anothers() -> None:
    bank, _ = linear_bank()
    few, many = list(scalars_of(bank, "test", 2)), list(scalars_of(bank, "test", 20))
    assert [(one.kind, one.queries) for one in few[:2]] == [("excerpt", tuple(range(9))), ("continuations", (9,))]
    assert many[: len(few)] == few
    assert {one.queries for one in many[2:]} == {(q,) for q in range(10)}
    assert list(scalars_of(bank, "test", 0)) == few[:2]


def test_what_is_kept_is_read_and_belongs_to_this_model_and_these_queries(tmp_path: Path) -> None:
    bank, effects_QN = linear_bank()
    assert load_replayed(tmp_path, bank) is None
    scalars = (Scalar("excerpt", (3,), tuple(-effects_QN[3])), Scalar("excerpt", (0, 1), tuple(-effects_QN[0])))
    kept = Replayed("ab", hash_of_asked(bank, scalars), tuple(range(12)), scalars)
    save_replayed(kept, tmp_path / REPLAYED_FILE)
    found = load_replayed(tmp_path, bank)
    assert found is not None
    np.testing.assert_allclose(found.derivatives(found.scalars), kept.derivatives(scalars), rtol=1e-5)
    assert [one.queries for one in found.of_kind("excerpt", alone=True)] == [(3,)]
    for other in (
        replace(bank, models={"A": {"weight": torch.arange(1, 4).half()}}),
        replace(bank, queries=[replace(query, caption="fast") for query in bank.queries]),
    ):
        with pytest.raises(StoreError, match="another model or other queries"):
            load_replayed(tmp_path, other)
    for text in ("", "[]", '{"scalars": 1}'):
        (tmp_path / REPLAYED_FILE).write_text(text)
        with pytest.raises(StoreError, match=r"replayed\.json: damaged"):
            load_replayed(tmp_path, bank)


def test_the_cards_row_is_perfect_where_effects_are_linear_and_missing_where_few_are_replayed() -> None:
    bank, effects_QN = linear_bank()

    def row_of(effects_QN: np.ndarray, n: int):
        scalars = tuple(Scalar("excerpt", (q,), tuple(-effects_QN[q])) for q in range(n))
        return replay_row(bank, Replayed("", "", tuple(range(12)), scalars), "test")

    row, missing = row_of(effects_QN, 9)
    assert row is not None
    assert row.method == "replay"
    assert row.measures["lds_excerpt"].value == pytest.approx(1)
    assert len(missing) == len(ASKED) - 1
    other, _ = row_of(np.roll(effects_QN, 1, axis=0), 9)
    assert other is not None
    assert abs(other.measures["lds_excerpt"].value) < 0.5
    none, missing = row_of(effects_QN, 7)
    assert none is None
    assert "7 queries are replayed, and 8 are the least" in missing[0]
