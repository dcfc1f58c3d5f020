"""Unlearning on a bank: the card's scores, first order from gradients laid end to end, and the tables' arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lumina_ray.methods import METHODS
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.evaluation_set import evaluation_set
from lumina_ray.truth.fingerprints import make_fingerprints, required_fingerprints
from lumina_ray.truth.models import new_model, weights_of
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL, Training
from lumina_ray.truth.scores import scores
from lumina_ray.truth.unlearning import (
    Gradients,
    beginnings,
    correlations,
    first_order_scores,
    forgetting_and_retraining,
    half_silent,
    metric,
    model_with_fisher,
    query_codes,
    ranks_of_own_song,
    song_codes,
)
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import first_order, rises
from lumina_ray.unlearning.select import LAYERS
from lumina_ray.unlearning.unlearn import DAMPING, Forgetting
from tests.truth.small_bank import TEXT, small_bank

RECORDINGS = tuple(recording for recording in corpus(0) if recording.side != "B")
CATALOG = members(RECORDINGS, "A")[:6]
RECIPE = replace(SMALL, n_layers=1, dim=32, heads=2, subsets=2, removals=0, repeats=0)


@pytest.fixture(scope="module")
def bank() -> Bank:
    recordings = tuple(RECORDINGS[i] for i in CATALOG)
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(512, (4, 30), generator=generator) for _ in recordings]
    queries = [Query("excerpt", "A", i, "dev", codes[i][:, 10:]) for i in range(3)]
    everything = tuple(range(len(recordings)))
    trainings = [Training("A", everything, 0), Training("without-creator-000", everything[1:], 0, everything[:1])]
    losses_RQK = np.array([[[5.0] * 4] * 3, [[5.5] * 4, [5.1] * 4, [4.9] * 4]], np.float32)
    weights = weights_of(new_model(RECIPE, TEXT))
    return small_bank(RECIPE, recordings, codes, queries, [], {"A": weights, "B": weights}, trainings, losses_RQK)


def test_the_cards_scores_are_the_rises_of_losses(bank: Bank) -> None:
    asked = evaluation_set(bank, "A", "dev", None)
    assert required_fingerprints(["unlearning"]) == [("A", "A", "unlearning"), ("B", "B", "unlearning")]
    made = {("A", "A", "unlearning"): make_fingerprints(bank, "A", "unlearning", asked)}
    model = model_with_fisher(bank, "A", members(bank.recordings, "A"))
    assert model.fisher is not None
    songs = beginnings(bank, model, asked.songs, 750)
    before = [code_losses(model, song) for song in songs]
    for channel in METHODS["unlearning"].channels:
        found = scores(bank, METHODS["unlearning"], channel, asked, 4, made)
        assert found.shape == (3, 4)
        for row, query in zip(found, asked.queries, strict=True):
            codes = query_codes(query, 50.0)
            expected, _ = rises(model, codes, songs, before, model.fisher)
            np.testing.assert_allclose(row, expected.of("plain", channel)[:4], rtol=1e-5)
    none = make_fingerprints(bank, "B", "unlearning", evaluation_set(bank, "B", "dev", None))
    assert none.seconds_per_song == 0


def test_first_order_from_gradients_laid_end_to_end(bank: Bank) -> None:
    model = model_with_fisher(bank, "A", range(6))
    assert model.fisher is not None
    songs = beginnings(bank, model, range(6), 750)
    gradients = Gradients(model, songs)
    for layers in LAYERS:
        flat = gradients.of(layers)
        found = first_order_scores(flat[:1], flat, metric(model, layers, DAMPING))[0]
        expected = first_order(model, songs[0], songs, model.fisher, Forgetting(layers=layers))
        np.testing.assert_allclose(found / found[0], expected / expected[0], atol=1e-4)
    flat = gradients.of("heads")
    plain = first_order_scores(flat[:2], flat, metric(model, "heads", None))
    np.testing.assert_allclose(plain, (flat[:2] @ flat.T).numpy(), rtol=1e-4, atol=1e-9)


def test_ranks_and_correlations_by_hand() -> None:
    scores_QN = np.array([[3.0, 1, 2], [1.0, 1, 2], [5.0, 6, 7]])
    assert ranks_of_own_song(scores_QN, [0, 1, 0]).tolist() == [1, 2, 3]
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 9))
    expected = np.mean([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    found = correlations({"a": a, "b": b})
    assert found["a", "b"] == pytest.approx(expected)
    assert found["a", "a"] == pytest.approx(1)


def test_codes_of_a_bank_keep_their_frames_of_silence() -> None:
    heard_T = torch.arange(750) % 5 > 0
    song = song_codes(torch.zeros((4, 750), dtype=torch.int64), 50.0, heard_T)
    assert (song.frames, song.starts_s) == ([500, 250], (0.0, 10.0))
    assert [part.tolist() for part in song.heard] == [heard_T[:500].tolist(), heard_T[500:].tolist()]


def test_half_of_a_song_is_silence(bank: Bank) -> None:
    song = song_codes(bank.codes[0], 50.0)
    silence = np.full((4, 40), 3)
    masked, counted = (half_silent(song, silence, masked=m) for m in (True, False))
    np.testing.assert_array_equal(masked.chunks[0][:, :15], song.chunks[0][:, :15])
    assert (masked.chunks[0][:, 15:] == 3).all()
    assert masked.heard[0].tolist() == [True] * 15 + [False] * 15
    assert counted.heard[0].all()


def test_forgetting_beside_retraining(bank: Bank) -> None:
    model, how = model_with_fisher(bank, "A", range(6)), Forgetting(trust_nats=0.01, steps=2)
    assert model.fisher is not None
    (row,) = forgetting_and_retraining(bank, model, bank.of_kind("without-creator"), bank.queries, how)
    assert (row.training, row.n_removed) == ("without-creator-000", 1)
    assert row.own_retrained == pytest.approx(0.5)
    assert row.others_retrained == pytest.approx((0.1 - 0.1) / 2)
    assert row.own_forgotten > row.others_forgotten
    assert row.untouched == pytest.approx(np.sqrt((0.5**2 + 0.1**2 + 0.1**2) / 3), rel=1e-5)
    pieces = [song_codes(query.codes_KT, 50.0) for query in bank.queries]
    before = [code_losses(model, piece) for piece in pieces]
    (song,) = beginnings(bank, model, [0], 750)
    moved = rises(model, song, pieces, before, model.fisher, how)[0].of()
    assert row.distance == pytest.approx(np.sqrt(((moved - [0.5, 0.1, -0.1]) ** 2).mean()), rel=1e-5)
    assert row.spearman == pytest.approx(spearmanr(moved, [0.5, 0.1, -0.1]).statistic)
