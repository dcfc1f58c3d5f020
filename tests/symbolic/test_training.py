"""Training on parts of pieces, losses, continuations, and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lumina_ray.errors import UsageError
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.symbolic.gradients import DIMS, Passage, gradients, passages, projected
from lumina_ray.symbolic.pieces import Query
from lumina_ray.symbolic.recipe import SMALL, TINY, SymbolicTraining, trainings, untrained_seed
from lumina_ray.symbolic.training import (
    count_steps,
    generated,
    learning_rates,
    losses,
    new_model,
    trained,
    weights_of,
    with_weights,
)
from tests.symbolic.making import random_pieces, random_queries

RECIPE = replace(TINY, epochs=3, batch=4, window=16)
HALF = SymbolicTraining("half-000", (0, 2, 5), 3, 4)


def test_a_model_knows_nothing_of_pieces_that_it_does_not_learn_from() -> None:
    pieces = random_pieces(6, 2, 16)
    others = [
        piece if i in HALF.pieces else replace(piece, learned_WT=(piece.learned_WT + 1) % 388)
        for i, piece in enumerate(pieces)
    ]
    *_, model = trained(RECIPE, HALF, pieces)
    before = weights_of(model)
    *_, again = trained(RECIPE, HALF, others)
    for name, values in weights_of(again).items():
        np.testing.assert_array_equal(values, before[name])
    changed = [
        replace(piece, learned_WT=(piece.learned_WT + 1) % 388) if i == 2 else piece for i, piece in enumerate(pieces)
    ]
    *_, third = trained(RECIPE, HALF, changed)
    assert any((values != before[name]).any() for name, values in weights_of(third).items())


def test_it_learns_and_is_kept_at_each_checkpoint() -> None:
    pieces = random_pieces(6, 2, 16)
    whole = replace(HALF, pieces=tuple(range(6)))
    recipe = replace(RECIPE, epochs=40, rate=1e-2)
    learned = [Query("excerpt", i, piece.learned_WT[0], 0) for i, piece in enumerate(pieces)]
    found = [losses(model, learned).mean() for model in trained(recipe, whole, pieces)]
    assert len(found) == len(recipe.checkpoints)
    assert losses(new_model(recipe, 4), learned).mean() > found[0] > found[1]
    # Random events cannot be foretold: that they can now is what was learned by heart.
    assert found[1] < 0.5 * np.log(388)
    assert count_steps(recipe, 6) == 40 * 3
    assert learning_rates(recipe, 6)[0] > learning_rates(recipe, 6)[1] > 0


def test_losses_count_from_the_first_event_that_is_asked_about() -> None:
    model = new_model(RECIPE, 0)
    queries = random_queries(3, 16, first=10)
    expected = [model.losses(torch.from_numpy(q.events_T)[None])[0, 10:].mean().item() for q in queries]
    np.testing.assert_allclose(losses(model, queries), expected, rtol=1e-6)
    copy = with_weights(RECIPE, weights_of(model))
    np.testing.assert_array_equal(losses(copy, queries), losses(model, queries))


def test_continuations_begin_with_their_prompts_and_follow_the_model() -> None:
    pieces = random_pieces(4, 2, 16)
    model = new_model(RECIPE, 0)
    made = generated(RECIPE, model, pieces, [1, 3])
    assert [(query.kind, query.piece, query.first, len(query.events_T)) for query in made] == [
        ("generated", i, 8, 16) for i in (1, 3)
    ]
    for query in made:
        np.testing.assert_array_equal(query.events_T[:8], pieces[query.piece].held_T[:8])
    for one, other in zip(made, generated(RECIPE, model, pieces, [1, 3]), strict=True):
        np.testing.assert_array_equal(one.events_T, other.events_T)
    # A model that is all but sure of its predecessor's embedding goes on as it predicts.
    sure = with_weights(
        RECIPE, {name: values * (40 if name.startswith("norm") else 1) for name, values in weights_of(model).items()}
    )
    events = generated(RECIPE, sure, pieces, [1])[0].events_T
    predicted = sure(torch.from_numpy(events)[None])[0].argmax(dim=-1).numpy()
    assert (predicted[8:] == events[8:]).mean() >= 0.75


def test_gradients_are_how_losses_change() -> None:
    torch.manual_seed(0)
    model = new_model(RECIPE, 0).double()
    of = [
        Passage(torch.from_numpy(random_pieces(1, 2, 16)[0].learned_WT)),
        Passage(torch.from_numpy(random_queries(1, 16)[0].events_T)[None], 5),
    ]
    for one, (loss, gradient_S) in zip(of, gradients(model, of), strict=True):
        direction_S = torch.randn(len(gradient_S), dtype=torch.float64)
        ends = []
        for step in (1e-5, -1e-5):
            moved = new_model(RECIPE, 0).double()
            torch.nn.utils.vector_to_parameters(
                torch.nn.utils.parameters_to_vector(model.parameters()) + step * direction_S, moved.parameters()
            )
            ends.append(moved.losses(one.events_WT)[:, one.first :].mean().item())
        assert loss == pytest.approx(sum(ends) / 2, abs=1e-6)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient_S @ direction_S), rel=1e-4)


def test_projection_is_the_same_for_pieces_and_queries() -> None:
    model, pieces, queries = new_model(RECIPE, 0), random_pieces(2, 2, 16), random_queries(1, 16, 4)
    found, vectors_nD = projected(model, passages(pieces, queries))
    raw = [(loss, gradient_S) for loss, gradient_S in gradients(model, passages(pieces, queries))]
    np.testing.assert_allclose(found, [loss for loss, _ in raw])
    projection = SparseProjection(len(raw[0][1]), DIMS, 4, 422024)
    for (_, gradient_S), vector_D in zip(raw, vectors_nD, strict=True):
        out = torch.zeros(DIMS, dtype=torch.float64)
        projection.add(out, 0, gradient_S)
        np.testing.assert_allclose(vector_D, out, rtol=1e-5, atol=1e-9)


def test_halves_are_drawn_by_name_and_judges_share_the_whole_models_start() -> None:
    found = trainings(SMALL, 120)
    whole, judges, members = found[0], found[1 : 1 + SMALL.halves], found[1 + SMALL.halves :]
    assert whole.pieces == tuple(range(120))
    assert {len(one.pieces) for one in found[1:]} == {60}
    assert len({one.pieces for one in found[1:]}) == SMALL.halves + SMALL.ensemble
    assert {(one.order, one.weights) for one in judges} == {(whole.order, whole.weights)}
    assert len({one.weights for one in [whole, *members]} | {untrained_seed(SMALL)}) == 2 + SMALL.ensemble
    assert trainings(SMALL, 120) == found
    with pytest.raises(UsageError, match="at most as many"):
        replace(SMALL, pieces=5)
