"""Predict what a recorded training and replays of it take: some steps are measured on Ray, the rest is arithmetic."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import ray
import torch

from cluster.plan import measuring, span_text, spread_of
from cluster.preflight import size_text
from cluster.session import ray_session
from cluster.train import songs_to_learn
from lumina_ray.model.files import absolute_model
from lumina_ray.replay.forecast import Measured, Sample, Work, clip_questions, costs, draw_sample, measure
from lumina_ray.replay.gate import GATE_FILE, REMOVALS
from lumina_ray.replay.learner import DecoderLearner, Learner
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import DISK_BYTES, MEMORY_BYTES, kept_steps, open_record, steps_between
from lumina_ray.replay.run import check_finished, open_training
from lumina_ray.store.forecast import Span
from lumina_ray.store.stream import StreamedStore
from lumina_ray.timing import timed
from lumina_ray.truth.own_model import open_decoder
from lumina_ray.vocabulary import CHANNELS

# A code, whether a frame holds sound, and a number of the finished model, as files have them.
_BYTES_OF_CODE, _BYTES_OF_HEARD, _BYTES_OF_NUMBER = 4, 1, 4


@dataclass(frozen=True)
class ReplayPlan:
    """Predicted work of a recorded training, and of questions to it by replays.

    Attributes:
        steps, states: of the training, and how many states of it are kept.
        passes: that a clip takes.
        recorded: whether the training is one that was recorded.
        gate_passed: whether the run has its gate, so that no clip is the first.
        workers: CPUs, one for each pass and each training.
        step_s, replayed_step_s, reverse_step_s: seconds of a step as it is trained, as it is replayed, and backwards;
            means of what was measured.
        training: the training with its record.
        clip, first_clip: until a clip is answered, of six chunks or more; the first takes the gate besides.
        singles: until each song was left out once, in a training of its own.
        singles_pay_from: from so many clips on that is less work; None where it never is.
        pass_bytes: peak memory of each pass.
        run_bytes: of the run's folder; of one that is not recorded, without what is measured on the songs.
        clip_bytes, unfinished_bytes: that a clip leaves on disk, and that it takes there for a while, at most.
    """

    songs: int
    steps: int
    states: int
    passes: int
    recorded: bool
    gate_passed: bool
    workers: int
    step_s: float
    replayed_step_s: float
    reverse_step_s: float
    training: Span
    clip: Span
    first_clip: Span
    singles: Span
    singles_pay_from: int | None
    pass_bytes: int
    run_bytes: int
    clip_bytes: int
    unfinished_bytes: int

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows of a table for people: quantity, prediction, and what the prediction rests on."""
        trainings = (self.replayed_step_s + self.reverse_step_s) / self.step_s
        pay = self.singles_pay_from
        return [
            ("the training", f"{self.songs} songs, {self.steps} steps", f"{self.states} states are kept"),
            (
                "time of it",
                span_text(self.training),
                f"{self.replayed_step_s:.3f} s a step, measured here",
            ),
            (
                "time of a clip",
                span_text(self.clip),
                f"{self.passes} passes on {self.workers} CPUs, one for each, of {trainings:.1f} trainings: "
                f"{self.replayed_step_s:.3f} s a step forwards and {self.reverse_step_s:.3f} s back, measured here; "
                "the report itself comes on top",
            ),
            (
                "time of the first",
                span_text(self.first_clip),
                "the gate was passed before"
                if self.gate_passed
                else f"the gate comes on top: {REMOVALS} trainings on {self.workers} CPUs",
            ),
            (
                "or each song left out",
                span_text(self.singles),
                f"{self.songs} trainings on {self.workers} CPUs, {self.step_s:.3f} s a step, for all clips: "
                + ("more work, however many" if pay is None else f"less work from {pay} clips on"),
            ),
            ("memory", f"{size_text(self.pass_bytes)} a pass", "most that was held here, and states between kept ones"),
            (
                "disk of the run",
                size_text(self.run_bytes),
                "what is there"
                if self.recorded
                else f"{self.states} states, songs and the model; what is measured on the songs comes on top",
            ),
            (
                "disk of a clip",
                f"{size_text(self.clip_bytes)}, up to {size_text(self.unfinished_bytes)} meanwhile",
                "derivatives; meanwhile also adjoints of each pass",
            ),
        ]

    def to_dict(self) -> dict:
        """For machines."""
        return asdict(self)


@dataclass(frozen=True)
class _Opened:
    """A training that can be measured.

    Attributes:
        run_bytes: of the run's folder.
        state_s: seconds in which a state is read; 0 where there is none yet.
    """

    learner: Learner
    sample: Sample
    work: Work
    run_bytes: int
    gate_passed: bool = False
    state_s: float = 0.0


@dataclass(frozen=True)
class _Found:
    """Findings of one process: see `_Opened`. It needed `start_s` seconds until the training was open."""

    measured: Measured
    work: Work
    run_bytes: int
    gate_passed: bool
    state_s: float
    start_s: float


def plan_replay(run: Path) -> ReplayPlan:
    """Predict what `lumina attribute --replay` takes on this cluster.

    Each process that measures replays the run's first step, too, and so knows that it can be replayed here.

    Raises:
        StoreError: the run is not finished, or damaged.
        SpecificationMismatch: it was recorded in another environment.
        NumericsError: its first step is not repeated to the bit.
        ClusterError: the cluster has nothing to measure on.
    """
    folder = run.resolve()
    check_finished(folder)
    return _plan(partial(_open_run, folder), recorded=True)


def plan_training(base: str, store: StreamedStore, plan: Plan) -> ReplayPlan:
    """Predict what `cluster.train.train` takes on this cluster, and replays of what it records.

    Raises:
        ModelError: the model is not at hand, or cannot be fine-tuned.
        SpecificationMismatch: other weights made the store.
        StoreError: damaged.
        UsageError: the states of the training take too much disk or memory.
        ClusterError: the cluster has nothing to measure on.
    """
    songs = songs_to_learn(base, store)
    codes = [piece.codes_KT for piece in songs.pieces]
    codes_bytes = sum(
        _BYTES_OF_CODE * piece.codes_KT.numel() + _BYTES_OF_HEARD * piece.heard_T.numel() for piece in songs.pieces
    )
    sample = draw_sample(codes, songs.captions, plan)
    return _plan(partial(_open_base, absolute_model(base), sample, len(codes), codes_bytes), recorded=False)


def _plan(opening: Callable[[], _Opened], *, recorded: bool) -> ReplayPlan:
    begin_s = time.monotonic()
    with ray_session(), measuring():
        session_s = time.monotonic() - begin_s
        workers = int(ray.cluster_resources()["CPU"])
        node_cpus = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
        task = ray.remote(num_cpus=1, max_retries=0)(_measure)
        # As many at once as passes: processors that are all busy are slower than a single busy one.
        at_once = min(len(CHANNELS), int(node_cpus))
        found = ray.get([task.remote(opening, time.time()) for _ in range(at_once)])
    first, measured = found[0], [one.measured for one in found]
    work, vector_bytes = first.work, measured[0].vector_bytes
    cost = costs(measured, work, median(one.start_s for one in found), median(one.state_s for one in found))
    spread = spread_of([value for one in measured for value in one.per_frame_s])

    def span(seconds: float) -> Span:
        expected_s = session_s + seconds
        return Span(expected_s / (1 + spread), expected_s, expected_s * (1 + spread))

    clip_s, gate_s = cost.clip_s(work, workers), 0.0 if first.gate_passed else cost.gate_s(work, workers)
    return ReplayPlan(
        songs=work.songs,
        steps=work.steps,
        states=len(work.kept),
        passes=work.passes,
        recorded=recorded,
        gate_passed=first.gate_passed,
        workers=workers,
        step_s=cost.training_s / work.steps,
        replayed_step_s=cost.recorded_s / work.steps,
        reverse_step_s=cost.reverse_s / work.steps,
        training=span(cost.start_s + cost.recorded_s),
        clip=span(clip_s),
        first_clip=span(clip_s + gate_s),
        singles=span(cost.singles_s(work, workers)),
        singles_pay_from=cost.singles_pay_from(work),
        pass_bytes=work.pass_bytes(max(one.process_bytes for one in measured), vector_bytes),
        run_bytes=first.run_bytes,
        clip_bytes=work.clip_bytes,
        unfinished_bytes=work.unfinished_bytes(vector_bytes),
    )


def _open_run(folder: Path) -> _Opened:
    training = open_training(folder)
    found = open_record(folder, training)
    state_s, _ = timed(found.state, found.kept[-1])
    next(found.replay(*found.kept[:2]))
    sample = draw_sample(training.songs, training.captions, training.plan)
    return _Opened(
        learner=training.learner,
        sample=sample,
        work=Work(len(training.songs), tuple(found.kept), len(clip_questions(sample))),
        run_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        gate_passed=(folder / GATE_FILE).is_file(),
        state_s=state_s,
    )


def _open_base(base: str, sample: Sample, songs: int, codes_bytes: int) -> _Opened:
    model = open_decoder(base)
    learner = DecoderLearner(model)
    sizes = [parameter.numel() * parameter.element_size() for parameter in learner.module.parameters()]
    every = steps_between(sample.total, sum(sizes), DISK_BYTES, MEMORY_BYTES)
    work = Work(songs, tuple(kept_steps(sample.total, every)), len(clip_questions(sample)))
    model_bytes = sum(_BYTES_OF_NUMBER * parameter.numel() for parameter in model.model.parameters())
    return _Opened(learner, sample, work, codes_bytes + model_bytes + work.state_bytes(sum(sizes), len(sizes)))


def _measure(opening: Callable[[], _Opened], asked_s: float) -> _Found:
    # One thread, as in every training that is recorded.
    torch.set_num_threads(1)
    opened = opening()
    start_s = time.time() - asked_s
    measured = measure(opened.sample, opened.learner)
    return _Found(measured, opened.work, opened.run_bytes, opened.gate_passed, opened.state_s, start_s)
