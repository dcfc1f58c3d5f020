"""Placebos, clusters and refusals of the agreement with retraining, on losses whose cause is laid down."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from lumina_ray.truth.agreement import Agreement, deranged, with_losses
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.evaluation_set import EvaluationSet, evaluation_set
from lumina_ray.truth.measures import DRAWS, lds
from lumina_ray.truth.queries import Query, QueryKind
from lumina_ray.truth.recipe import SMALL, retrainings
from lumina_ray.truth.scores import BOTH
from tests.truth.small_bank import captions_of, small_bank

RECORDINGS = corpus(0)
CATALOG = members(RECORDINGS, "A")
RECIPE = replace(SMALL, subsets=24, removals=0, repeats=0)
CODES = torch.zeros(4, 500, dtype=torch.int64)
N = len(CATALOG)


def bank_of(
    kind: QueryKind, effects_QKN: np.ndarray, captions: Sequence[str] = (), first: int = -1, models: str = "half"
) -> Bank:
    """Queries of one kind, to each codebook of which each song of the catalog does what is laid down."""
    Q, K = effects_QKN.shape[:2]
    queries = [
        Query(
            kind, "A", CATALOG[first + q] if first >= 0 else -1, "test", CODES, caption=captions[q] if captions else ""
        )
        for q in range(Q)
    ]
    trainings = [t for t in retrainings(RECIPE, RECORDINGS, captions_of(RECORDINGS)) if t.name.startswith(models)]
    masks_RN = np.array([[song in training.songs for song in CATALOG] for training in trainings], float)
    losses_RQK = 5 - np.einsum("rn,qkn->rqk", masks_RN, effects_QKN)
    return small_bank(RECIPE, RECORDINGS, [CODES] * len(RECORDINGS), queries, [], {}, trainings, losses_RQK)


def judge(bank: Bank) -> tuple[Agreement, EvaluationSet]:
    asked = evaluation_set(bank, "A", "test", None)
    return Agreement(bank, asked), asked


def test_scores_without_anything_of_the_query_pass_no_placebo() -> None:
    rng = np.random.default_rng(0)
    common_N, own_QN = rng.normal(size=N), rng.normal(size=(20, N))
    effects_QN = 2 * common_N + own_QN
    bank = bank_of("excerpt", np.repeat(effects_QN[:, None], 4, axis=1), first=0)
    agreement, _ = judge(bank)
    true, profile = (agreement("P", scores_QN) for scores_QN in (effects_QN, np.tile(effects_QN.mean(axis=0), (20, 1))))
    assert true["lds_excerpt"].value > 0.999
    assert true["lds_excerpt_specific"].value > 0.999
    assert 0.5 < true["lds_excerpt_other"].value < 0.95
    # A mean profile looks as good as another query's scores do, and nothing is left of it.
    assert profile["lds_excerpt"].value == pytest.approx(profile["lds_excerpt_other"].value)
    assert profile["lds_excerpt"].value > 0.8
    assert abs(profile["lds_excerpt_specific"].value) < 0.2


def test_each_channel_is_also_judged_by_its_own_codebooks() -> None:
    effects_QKN = np.random.default_rng(1).normal(size=(12, 4, N))
    agreement, _ = judge(bank_of("excerpt", effects_QKN, first=0))
    first_QN, others_QN = effects_QKN[:, 0], effects_QKN[:, 1:].mean(axis=1)
    assert agreement("P", first_QN)["lds_excerpt_own"].value > 0.999
    assert agreement("M", others_QN)["lds_excerpt_own"].value > 0.999
    assert agreement("P", others_QN)["lds_excerpt_own"].value < 0.5
    assert agreement("P", effects_QKN.mean(axis=1))["lds_excerpt"].value > 0.999


def test_queries_that_are_one_query_are_refused_and_recordings_are_not() -> None:
    rng = np.random.default_rng(2)
    alike_QKN = np.repeat(rng.normal(size=N)[None] + 0.05 * rng.normal(size=(30, N)), 4, axis=0).reshape(30, 4, N)
    agreement, asked = judge(bank_of("captioned", alike_QKN))
    assert agreement.diversity["lds_captioned"].queries == len(asked.queries) == 30
    assert agreement.diversity["lds_captioned"].effective < 2
    assert agreement.diversity["lds_captioned"] == agreement.diversity["lds_pieces"]
    # What is each query's own is another matter.
    assert agreement.diversity["lds_captioned"].own > 10
    assert set(agreement("P", rng.normal(size=(30, N)))) == {"lds_captioned_specific", "lds_pieces_specific"}
    words = agreement.refusals()
    assert ["captioned" in words[0], "pieces" in words[1]] == [True, True]
    assert all("30 pieces" in one and one.endswith("the latter alone is judged.") for one in words)
    few, _ = judge(bank_of("captioned", alike_QKN[:8]))
    assert few("P", rng.normal(size=(8, N))) == {}
    assert few.refusals()[0].endswith("are the least.")
    recordings, _ = judge(bank_of("excerpt", alike_QKN, first=0))
    assert recordings.diversity["lds_excerpt"].judged
    assert recordings.refusals() == []
    assert "lds_excerpt" in recordings("P", rng.normal(size=(30, N)))


def test_kinds_are_judged_together_each_less_its_own_mean() -> None:
    """Two kinds that retraining moves in two ways: what is common to one of them is no query's own."""
    rng = np.random.default_rng(6)
    effects_QN = rng.normal(size=(24, N)) + np.repeat(5 * rng.normal(size=(2, N)), 12, axis=0)
    bank = bank_of("prompted", np.repeat(effects_QN[:, None], 4, axis=1), first=0)
    bank = replace(bank, queries=[replace(q, kind="continued") if i >= 12 else q for i, q in enumerate(bank.queries)])
    agreement, _ = judge(bank)
    assert agreement.diversity["lds_continuations"].queries == 24
    assert agreement.diversity["lds_continuations"].effective < 3 < 10 < agreement.diversity["lds_continuations"].own
    found = agreement(BOTH, effects_QN)
    assert found["lds_continuations"].value > 0.999
    assert found["lds_continuations_specific"].value > 0.999
    assert not any(name.endswith("_own") for name in found)
    profiles_QN = np.repeat([effects_QN[:12].mean(axis=0), effects_QN[12:].mean(axis=0)], 12, axis=0)
    of_profiles = agreement(BOTH, profiles_QN)
    assert of_profiles["lds_continuations"].value > 0.9
    assert abs(of_profiles["lds_continuations_specific"].value) < 0.2
    # One mean for both kinds would call the profile the query's own.
    assert lds(profiles_QN - profiles_QN.mean(axis=0), bank.masks(bank.of_kind("half"), CATALOG),
               bank.losses_RQK.mean(axis=2)).value > 0.5  # fmt: skip


def test_pieces_of_one_caption_are_drawn_together() -> None:
    rng = np.random.default_rng(3)
    effects_QKN = np.repeat(rng.normal(size=(30, 1, N)), 4, axis=1)
    scores_QN = effects_QKN[:, 0] + 2 * rng.normal(size=(30, N))
    captions = [f"caption {q}" for q in range(30)]
    once, _ = judge(bank_of("guided", effects_QKN, captions))
    thrice, _ = judge(bank_of("guided", np.tile(effects_QKN, (3, 1, 1)), captions * 3))
    one, three = (agreement("P", np.tile(scores_QN, (n, 1)))["lds_guided"] for agreement, n in ((once, 1), (thrice, 3)))
    np.testing.assert_allclose(three.draws_n, one.draws_n, atol=1e-12)
    assert three.draws_n.shape == (DRAWS,)
    # No query has the scores of its own caption as its placebo.
    assert thrice("P", np.tile(effects_QKN[:, 0], (3, 1)))["lds_guided_other"].value < 0.3


def test_recordings_are_judged_as_before() -> None:
    rng = np.random.default_rng(4)
    effects_QKN = rng.normal(size=(15, 4, N))
    bank = bank_of("excerpt", effects_QKN, first=0)
    agreement, asked = judge(bank)
    scores_QN = effects_QKN[:, 0] + rng.normal(size=(15, N))
    masks_RN = bank.masks(bank.of_kind("half"), list(asked.songs[:N]))
    expected = lds(scores_QN, masks_RN, bank.losses_RQK.mean(axis=2))
    assert agreement("P", scores_QN)["lds_excerpt"].estimate == expected


def test_queries_without_losses_are_not_judged() -> None:
    bank = bank_of("prompted", np.random.default_rng(5).normal(size=(12, 4, N)), first=0)
    # One that is only asked about twins.
    more = replace(bank, extra_queries=[Query("prompted", "A", CATALOG[40], "test", CODES)])
    agreement, asked = judge(more)
    assert len(asked.queries) == 13
    assert with_losses(more, asked) == list(range(1, 13))
    assert agreement.diversity["lds_prompted"].queries == 12


@given(st.lists(st.integers(0, 12), min_size=2, max_size=40))
def test_a_derangement_gives_each_query_another_one_of_another_cluster(clusters: list[int]) -> None:
    others = deranged(list(clusters))
    assert sorted(others) == list(range(len(clusters)))
    assert all(other != q for q, other in enumerate(others))
    if max(clusters.count(name) for name in clusters) <= len(clusters) // 2:
        assert all(clusters[other] != clusters[q] for q, other in enumerate(others))


def test_models_that_lack_one_song_judge_song_by_song() -> None:
    rng = np.random.default_rng(7)
    effects_QN = rng.normal(size=(30, N))
    bank = bank_of(
        "captioned", np.repeat(effects_QN[:, None], 4, axis=1), [f"c {q}" for q in range(30)], models="single"
    )
    agreement, _ = judge(bank)
    assert set(agreement.diversity) == {"alone_pieces"}
    scores_QN = effects_QN + rng.normal(size=(30, N))
    found = agreement("P", scores_QN)
    assert set(found) == {"alone_pieces", "alone_pieces_specific", "alone_pieces_other"}
    expected = np.mean([spearmanr(scores_QN[q], effects_QN[q]).statistic for q in range(30)])
    assert found["alone_pieces"].value == pytest.approx(expected)
    assert abs(found["alone_pieces_other"].value) < 0.1
