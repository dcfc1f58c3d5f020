"""A replay does what is predicted of it: its steps, states, reads and bytes are counted."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lumina_ray.replay import record as recording
from lumina_ray.replay import reverse
from lumina_ray.replay.forecast import Costs, Measured, Work, clip_questions, costs, draw_sample, measure
from lumina_ray.replay.gate import REMOVALS
from lumina_ray.replay.record import Record, kept_steps, record, steps_between
from lumina_ray.replay.reverse import Group, differentiate
from tests.replay.toy import CAPTIONS, PLAN, ToyLearner, toy_songs, toy_training

COST = Costs(start_s=2.0, training_s=50.0, recorded_s=60.0, reverse_s=150.0, pass_s=215.0, ask_s=0.5)


class Counted:
    """A function that counts its calls."""

    def __init__(self, work: Callable) -> None:
        self.work, self.calls = work, 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        return self.work(*args, **kwargs)


@settings(max_examples=12)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 12))
def test_a_real_pass_does_what_is_predicted(epochs: int, batch: int, held: int) -> None:
    plan = replace(PLAN, epochs=epochs, batch=batch)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        training = toy_training(plan=plan)
        vector_bytes = training.weights().numel() * 4
        found = record(training, Path(folder), memory_bytes=4 * held * vector_bytes)
        every = steps_between(len(training.steps), vector_bytes, recording.DISK_BYTES, 4 * held * vector_bytes)
        assert found.kept == kept_steps(len(training.steps), every)
        work = Work(len(training.songs), tuple(found.kept), passes=1)
        kept = [load_file(path) for path in (Path(folder) / "states").iterdir()]
        tensors_bytes = sum(tensor.numel() * tensor.element_size() for state in kept for tensor in state.values())
        assert work.state_bytes(vector_bytes, len(training.parameters)) == tensors_bytes

        reads, hashes, backwards = Counted(Record._read), Counted(recording.digests), Counted(reverse.backwards)
        patch.setattr(Record, "_read", lambda self, step: reads(self, step))
        patch.setattr(recording, "digests", hashes)
        patch.setattr(reverse, "backwards", backwards)
        replayed, segments = Record.replay, []

        def whole(self: Record, begin: int, end: int) -> list:
            segments.append(list(replayed(self, begin, end)))
            return segments[-1]

        patch.setattr(Record, "replay", whole)
        unfinished, sizes = Path(folder) / "unfinished", []
        differentiate(
            found,
            [Group((toy_songs()[0],), ("music",))],
            unfinished,
            lambda *_: sizes.append(unfinished.stat().st_size if unfinished.exists() else 0),
        )
        assert hashes.calls == backwards.calls == work.steps == len(training.steps)
        assert reads.calls == work.reads
        assert max(map(len, segments)) == work.longest <= held
        if len(segments) > 1:
            # Besides the tensors, a file has a header.
            once = work.unfinished_bytes(vector_bytes) / 2
            assert once <= max(sizes) < once + 1024


def test_a_sample_has_the_largest_step_and_steps_of_all_sizes() -> None:
    training = toy_training()
    sample = draw_sample(toy_songs(), CAPTIONS, PLAN)
    assert sample.total == len(training.steps)
    frames = [training.batch(step).codes_BKT.shape for step in range(sample.total)]
    sizes = sorted(B * T for B, _, T in frames)
    assert sample.frames[0] == sizes[-1]
    assert sorted(sample.frames[1:]) == [sizes[(2 * part + 1) * len(sizes) // 18] for part in range(9)]
    assert sorted(sample.frames[1:4]) == [sizes[(2 * part + 1) * len(sizes) // 6] for part in range(3)]
    own = sample.training(ToyLearner(torch.float32))
    for number, (step, n) in enumerate(zip(sample.steps, sample.frames, strict=True)):
        codes_BKT = own.batch(number).codes_BKT
        assert codes_BKT.shape[0] * codes_BKT.shape[2] == n
        assert all(torch.equal(one, sample.windows[i]) for one, i in zip(codes_BKT, step, strict=True))
    assert [chunk.shape[1] for chunk in sample.clip] == [24] * 6


@pytest.mark.parametrize(("quick_s", "steps"), [(60.0, 9), (-1.0, 3)])
def test_a_few_steps_are_measured_and_more_where_that_is_quick(
    monkeypatch: pytest.MonkeyPatch, quick_s: float, steps: int
) -> None:
    monkeypatch.setattr("lumina_ray.replay.forecast._QUICK_S", quick_s)
    sample = draw_sample(toy_songs(), CAPTIONS, PLAN)
    assert len(clip_questions(sample)) == 2
    measured = measure(sample, ToyLearner(torch.float32))
    for values in (measured.learn_s, measured.keep_s, measured.reverse_s):
        assert len(values) == steps
        assert min(values) > 0
    assert list(measured.frames) == sample.frames[1 : 1 + steps]
    assert measured.vector_bytes == 4 * toy_training().weights().numel()
    assert measured.parameters == len(toy_training().parameters)


def test_seconds_are_the_sum_of_what_is_done() -> None:
    measured = Measured((1.0, 3.0), (0.1, 0.1), (4.0, 8.0), (10, 20), 5.0, 0.5, 1000, 40, 3)
    work = Work(5, (0, 4, 8, 10), passes=2)
    found = costs([measured, replace(measured, gradient_s=7.0)], work, start_s=2.0, state_s=0.01)
    assert (work.steps, work.reads, work.longest) == (10, 7, 4)
    assert found == Costs(2.0, *map(pytest.approx, (20.0, 21.0, 60.0, 6 + 21 + 60 + 0.07, 0.5)))
    np.testing.assert_allclose(measured.per_frame_s, [0.51, 11.1 / 20])
    assert work.pass_bytes(1000, 40) == 1000 + 3 * 4 * 40


@pytest.mark.parametrize(("workers", "passes", "removals", "trainings"), [(1, 2, 6, 9), (2, 1, 3, 5), (8, 1, 1, 2)])
def test_what_fits_runs_at_once(workers: int, passes: int, removals: int, trainings: int) -> None:
    work = Work(9, (0, 4), passes=2)
    assert COST.clip_s(work, workers) == 2 * 2 + passes * (2 + 215)
    without_one_s = 2 + 50 * 8 / 9 + 0.5
    assert COST.gate_s(work, workers) == pytest.approx(removals * without_one_s + 2 + 0.5)
    assert COST.singles_s(work, workers) == pytest.approx(trainings * without_one_s)


@pytest.mark.parametrize(("songs", "removed"), [(1, 1), (2, 1), (6, 1), (7, 1), (20, 2), (104, 10), (500, 50)])
@pytest.mark.parametrize("ask_s", [0.0, 0.5, 3.0])
def test_leaving_each_song_out_pays_from_the_first_clip_at_which_it_is_less_work(
    songs: int, removed: int, ask_s: float
) -> None:
    cost, work = replace(COST, ask_s=ask_s), Work(songs, (0, 4), passes=2)

    def replays_s(clips: int) -> float:
        return REMOVALS * (2 + 50 * (songs - removed) / songs + ask_s) + clips * 2 * (2 + 215)

    def singles_s(clips: int) -> float:
        return songs * (2 + 50 * (songs - 1) / songs + clips * ask_s)

    if songs * ask_s >= 2 * (2 + 215):
        assert cost.singles_pay_from(work) is None
        return
    first = next(clips for clips in count(1) if singles_s(clips) < replays_s(clips))
    assert cost.singles_pay_from(work) == first
