"""The smoothness gate: it lets a smooth training through, and stops one whose derivatives predict nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import linregress, pearsonr

from lumina_ray.errors import NumericsError, StoreError
from lumina_ray.replay.gate import (
    Gate,
    check_gate,
    draw_removals,
    judge,
    losses_without,
    predicted_effects,
    run_gate,
    write_gate,
)
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import Record, record
from lumina_ray.replay.reverse import Group, differentiate, group_losses
from tests.replay.toy import toy_songs, toy_training

GROUPS = [Group((song,), ("music",)) for song in toy_songs()]
SMOOTH = Plan(seed=3, epochs=6, batch=4, window_frames=24, rate=1e-2, epsilon=1.0, clip=100.0)


def recorded(folder: Path, plan: Plan) -> Record:
    return record(toy_training(torch.float64, plan), folder)


def test_a_smooth_training_passes_and_is_let_through(tmp_path: Path) -> None:
    smooth = recorded(tmp_path / "run", SMOOTH)
    with pytest.raises(StoreError, match="nobody has checked yet"):
        check_gate(smooth.folder)
    gate = run_gate(smooth, GROUPS, differentiate(smooth, GROUPS))
    assert gate.passed, gate
    assert check_gate(smooth.folder) == gate
    assert (gate.removals, gate.queries) == (6, len(GROUPS))
    # What both numbers are made of: of one query, they follow from it.
    one = run_gate(smooth, GROUPS[:1], differentiate(smooth, GROUPS[:1]))
    assert one.r == pytest.approx(pearsonr(one.predicted, one.actual).statistic)


def test_wrong_derivatives_are_refused_with_both_numbers(tmp_path: Path) -> None:
    smooth = recorded(tmp_path / "run", SMOOTH)
    derivatives = differentiate(smooth, GROUPS)
    gate = run_gate(smooth, GROUPS, 2 * derivatives)
    assert gate.slope < 0.8
    with pytest.raises(NumericsError, match=rf"r {gate.r:.3f} .* slope {gate.slope:.3f} "):
        check_gate(smooth.folder)
    assert run_gate(smooth, GROUPS, -derivatives).r < 0


def test_a_gate_of_another_training_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    smooth = recorded(tmp_path / "run", SMOOTH)
    write_gate(smooth, Gate("another", 1.0, 1.0, 6, 1, (), ()))
    with pytest.raises(StoreError, match="another training"):
        check_gate(smooth.folder)
    for text in ("", "[]", '{"r": 1}'):
        (smooth.folder / "gate.json").write_text(text)
        with pytest.raises(StoreError, match=r"gate\.json: damaged"):
            check_gate(smooth.folder)


def test_a_removal_is_the_training_at_weight_0(tmp_path: Path) -> None:
    smooth = recorded(tmp_path / "run", SMOOTH)
    found = losses_without(smooth, GROUPS, (1, 4))
    training = toy_training(torch.float64, SMOOTH)
    for _ in training.run([1, 0, 1, 1, 0]):
        pass
    assert np.array_equal(found, group_losses(training, GROUPS))


def test_numbers_of_one_query_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(12, 1))
    actual = 0.9 * predicted + 0.1 * rng.normal(size=(12, 1)) + 5
    gate = judge("x", predicted, actual)
    assert gate.r == pytest.approx(pearsonr(predicted[:, 0], actual[:, 0]).statistic)
    assert gate.slope == pytest.approx(linregress(predicted[:, 0], actual[:, 0]).slope)


def test_what_all_removals_of_a_query_share_counts_for_nothing() -> None:
    rng = np.random.default_rng(0)
    common = np.array([[1.0, 20.0, 300.0]])
    gate = judge("x", common + rng.normal(size=(6, 3)), common + rng.normal(size=(6, 3)))
    assert not gate.passed


def test_no_spread_and_no_numbers_predict_nothing() -> None:
    fine = np.random.default_rng(0).normal(size=(6, 2))
    for bad in (np.zeros((6, 2)), np.full((6, 2), np.nan)):
        assert not judge("x", bad, fine).passed
        assert not judge("x", fine, bad).passed


def test_predicted_effects_are_lost_weight_times_derivative() -> None:
    derivatives = np.array([[1.0, -2.0, 4.0]])
    effects = predicted_effects(derivatives, (1.0, 1.0, 0.5), [(0,), (1, 2), (0, 1, 2)])
    np.testing.assert_allclose(effects, [[-1.0], [0.0], [-1.0]])


def test_removals_are_tenths_and_follow_from_the_seed() -> None:
    drawn = draw_removals(104, 0)
    assert drawn == draw_removals(104, 0) != draw_removals(104, 1)
    assert [len(set(songs)) for songs in drawn] == [10] * 6
    assert all(len(songs) == 1 for songs in draw_removals(3, 0))
