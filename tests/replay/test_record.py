"""Recorded trainings: replays are checked to the bit, and what has changed is refused by name."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError, UsageError
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import Record, open_record, record, state_path, steps_between
from lumina_ray.replay.training import Training
from tests.replay.toy import CAPTIONS, PLAN, ToyLearner, toy_songs, toy_training


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record(toy_training(), tmp_path / "run")
    return tmp_path / "run"


def replayed(found: Record) -> None:
    for begin, end in zip(found.kept, found.kept[1:], strict=False):
        list(found.replay(begin, end))


def test_a_replay_is_the_training_to_the_bit(run: Path) -> None:
    found = open_record(run, toy_training())
    replayed(found)
    once = toy_training()
    *_, last = once.run([1.0] * 5)
    final = found.state(len(once.steps))
    for name in ("theta_P", "first_P", "second_P"):
        assert torch.equal(getattr(last.state(), name), getattr(final, name))


def test_an_interrupted_recording_goes_on_to_the_same_record(tmp_path: Path, run: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(toy_training(), tmp_path / "other", report=stop)
    with pytest.raises(StoreError, match="up to step"):
        open_record(tmp_path / "other", toy_training())
    seen: list[int] = []
    record(toy_training(), tmp_path / "other", report=lambda done, _: seen.append(done))
    assert seen[0] > 1
    for file in run.rglob("*.safetensors"):
        assert (tmp_path / "other" / file.relative_to(run)).read_bytes() == file.read_bytes()
    assert open_record(tmp_path / "other", toy_training()).identity == open_record(run, toy_training()).identity


def test_a_finished_record_is_not_made_again(run: Path) -> None:
    seen: list[int] = []
    found = record(toy_training(), run, report=lambda done, _: seen.append(done))
    assert not seen
    final = found.state(len(found.training.steps))
    assert torch.equal(found.training.weights(), final.theta_P), "the learner has the final weights all the same"


def _songs(change: bool) -> list[torch.Tensor]:
    songs = toy_songs()
    songs[1] = songs[1].clone()
    songs[1][0, 5] = (songs[1][0, 5] + change) % 11
    return songs


def test_other_data_captions_start_plan_or_environment_are_refused_by_name(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, frozen = ToyLearner(torch.float32), ToyLearner(torch.float32)
    with torch.no_grad():
        next(iter(learner.module.parameters()))[0, 0] += 1e-6
        frozen.frozen.weight[0, 0] += 1e-6
    others = {
        "data_sha256": Training(ToyLearner(torch.float32), _songs(True), CAPTIONS, PLAN),
        "start_sha256": Training(learner, toy_songs(), CAPTIONS, PLAN),
        "frozen_sha256": Training(frozen, toy_songs(), CAPTIONS, PLAN),
        "plan.seed": toy_training(plan=Plan(**vars(PLAN) | {"seed": 4})),
        "songs": Training(ToyLearner(torch.float32), toy_songs()[:4], CAPTIONS[:4], PLAN),
        "dtype": toy_training(torch.float64),
    }
    open_record(run, Training(ToyLearner(torch.float32), _songs(False), CAPTIONS, PLAN))
    for name, other in others.items():
        with pytest.raises(SpecificationMismatch) as caught:
            open_record(run, other)
        assert str(run) in str(caught.value)
        assert name in str(caught.value) or name == "songs"
    changed = Training(ToyLearner(torch.float32), toy_songs(), ("other", *CAPTIONS[1:]), PLAN)
    with pytest.raises(SpecificationMismatch, match="data_sha256"):
        open_record(run, changed)
    with pytest.raises(SpecificationMismatch, match="data_sha256"):
        record(changed, run)
    with pytest.raises(SpecificationMismatch, match="weights"):
        record(toy_training(), run, [1, 1, 0, 1, 1])
    monkeypatch.setattr(torch, "__version__", "2.0.0")
    with pytest.raises(SpecificationMismatch, match=r"environment\.torch.*2\.0\.0"):
        open_record(run, toy_training())


def test_missing_and_damaged_states_are_refused_by_name(run: Path) -> None:
    found = open_record(run, toy_training())
    middle = state_path(run, found.kept[1])
    whole = middle.read_bytes()
    middle.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=f"{middle.name}: not the state"):
        found.state(found.kept[1])
    middle.unlink()
    with pytest.raises(StoreError, match=f"{middle.name}: this state of the training is missing"):
        open_record(run, toy_training())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"states": 3}', "{"])
def test_damaged_records_are_refused(run: Path, text: str) -> None:
    (run / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json"):
        open_record(run, toy_training())
    shutil.rmtree(run)
    with pytest.raises(StoreError, match="no recorded training"):
        open_record(run, toy_training())


def test_the_first_difference_of_a_replay_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that rounds otherwise: from the fourth step on, one number of the heads differs by one bit."""
    found = open_record(run, toy_training())
    truly = ToyLearner.losses
    calls = 0

    def rounded(self, codes_BKT, texts):
        nonlocal calls
        calls += 1
        if calls == 4:
            bias = self.module["heads"].bias
            with torch.no_grad():
                bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
        return truly(self, codes_BKT, texts)

    monkeypatch.setattr(ToyLearner, "losses", rounded)
    with pytest.raises(NumericsError, match=r"after step 4 of \d+, heads\.bias differs|after step 4 .* differs"):
        replayed(found)


def test_every_parameter_takes_part_in_a_step_without_songs(tmp_path: Path) -> None:
    """The first step's windows may all have weight 0: the optimizer counts it all the same."""
    training = toy_training()
    first = set(training.batch(0).songs)
    weights = [float(song not in first) for song in range(5)]
    moments = training.run(weights)
    state = next(moments).state()
    decayed = training.start().theta_P * (1 - training.batch(0).lr * PLAN.weight_decay)
    torch.testing.assert_close(state.theta_P, decayed)
    assert not state.first_P.any()
    assert record(toy_training(), tmp_path / "run", weights).kept[-1] == len(training.steps)


@given(st.integers(1, 400), st.integers(1, 10**6), st.integers(1, 10**9), st.integers(1, 10**9))
def test_kept_states_fit_the_budgets_or_are_refused(total: int, vector: int, disk: int, memory: int) -> None:
    with contextlib.suppress(UsageError):
        every = steps_between(total, vector, disk, memory)
        kept = {*range(0, total, every), total}
        assert len(kept) * 3 * vector <= disk
        assert every * 4 * vector <= memory


def test_without_limits_the_root_of_the_steps_is_kept() -> None:
    assert steps_between(156, 1, 10**9, 10**9) == 12
    with pytest.raises(UsageError, match="do not fit"):
        steps_between(100, 1000, 5000, 10**9)


def test_weights_must_be_one_for_each_song(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5 songs need as many weights, not 2"):
        record(toy_training(), tmp_path / "run", [1, 1])
    with pytest.raises(UsageError, match="one caption for each"):
        Training(ToyLearner(torch.float32), toy_songs(), CAPTIONS[:2])
    assert np.isfinite(toy_training().batch(0).lr)
