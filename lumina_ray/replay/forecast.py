"""Predictions of what a recorded training and questions to it take: some steps are measured, the rest is arithmetic.

Shape legend: N = songs, K = codebooks, T = frames.
"""

import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lumina_ray.attribution.confirm import QUERY_CHUNKS
from lumina_ray.replay.adamw import Adjoint
from lumina_ray.replay.gate import REMOVALS, draw_removals
from lumina_ray.replay.learner import Learner
from lumina_ray.replay.plan import Plan, order
from lumina_ray.replay.question import questions
from lumina_ray.replay.record import Record, Replayed, digests, held_bytes
from lumina_ray.replay.reverse import Group, backwards, group_losses, loss_gradients
from lumina_ray.replay.training import Training, cut_windows
from lumina_ray.timing import timed
from lumina_ray.vocabulary import SongCodes

# Steps are measured in the middle of each third of all steps, in the order of their sizes; where that was quick, in the
# middle of the other ninths, too.
_FEW, _MANY = 3, 9
_QUICK_S = 10.0
_BYTES_OF_DERIVATIVE = 8
_BYTES_OF_HASH = 8


@dataclass(frozen=True)
class Sample:
    """Steps of a training that stand for all of them, and a clip of as many chunks as are asked about at most.

    Attributes:
        windows: int64 `[K, T]` each.
        captions: of each window's song.
        steps: which windows each step has. The first is the largest of all, and not measured.
        clip: int64 `[K, T]` each, windows of the songs.
        plan: of the training.
        total: steps of the training.
    """

    windows: tuple[Tensor, ...]
    captions: tuple[str | None, ...]
    steps: tuple[tuple[int, ...], ...]
    clip: tuple[Tensor, ...]
    plan: Plan
    total: int

    @property
    def frames(self) -> list[int]:
        """Frames of each step, of all of its windows together."""
        return [sum(self.windows[i].shape[1] for i in step) for step in self.steps]

    def training(self, learner: Learner) -> Training:
        """Make a training of these steps alone."""
        training = Training(learner, self.windows, self.captions, self.plan)
        training.steps = [list(step) for step in self.steps]
        return training


@dataclass(frozen=True)
class Measured:
    """Times and memory of one process.

    Attributes:
        learn_s: seconds of each measured step of a training.
        keep_s: seconds that it takes besides where it is recorded or replayed: hashes, and copies of the state.
        reverse_s: seconds in which adjoints are carried back over it, for one question.
        frames: of each measured step.
        gradient_s: seconds of the gradient of one question.
        ask_s: seconds of the losses of all questions about a clip.
        process_bytes: peak memory of the process, which held one step.
        vector_bytes: of the weights.
        parameters: how many tensors learn.
    """

    learn_s: tuple[float, ...]
    keep_s: tuple[float, ...]
    reverse_s: tuple[float, ...]
    frames: tuple[int, ...]
    gradient_s: float
    ask_s: float
    process_bytes: int
    vector_bytes: int
    parameters: int

    @property
    def per_frame_s(self) -> list[float]:
        """Seconds of each measured step, for each frame: what differs where the machine was not steady."""
        every = zip(self.learn_s, self.keep_s, self.reverse_s, self.frames, strict=True)
        return [(learn + keep + reverse) / frames for learn, keep, reverse, frames in every]


@dataclass(frozen=True)
class Work:
    """Steps, states and passes of a recorded training and of the questions about a clip.

    Attributes:
        songs: N.
        kept: after which steps a state is kept, from 0 to the last.
        passes: for a clip, each for one question.
    """

    songs: int
    kept: tuple[int, ...]
    passes: int

    @property
    def steps(self) -> int:
        """Steps of the training. A pass replays each once, and goes back over each once."""
        return self.kept[-1]

    @property
    def reads(self) -> int:
        """States that a pass reads: the last, and both ends of each segment."""
        return 1 + 2 * (len(self.kept) - 1)

    @property
    def longest(self) -> int:
        """The most steps between two kept states, which a pass holds at once."""
        return max(end - begin for begin, end in zip(self.kept, self.kept[1:], strict=False))

    @property
    def removed(self) -> int:
        """Songs that each training of the gate leaves out."""
        return len(draw_removals(self.songs, 0)[0])

    def state_bytes(self, vector_bytes: int, parameters: int) -> int:
        """Bytes of all kept states, each with weights and moments, and of the hashes after every step."""
        return len(self.kept) * 3 * vector_bytes + self.steps * parameters * _BYTES_OF_HASH

    def pass_bytes(self, process_bytes: int, vector_bytes: int) -> int:
        """Peak memory of a pass, from that of a process that held one step."""
        return process_bytes + held_bytes(self.longest - 1, vector_bytes)

    def unfinished_bytes(self, vector_bytes: int) -> int:
        """Bytes of the files with which all passes of a clip go on where one is interrupted.

        Each has three adjoints and the derivatives, and is there twice while it is written.
        """
        return 2 * self.passes * (3 * vector_bytes + self.songs * _BYTES_OF_DERIVATIVE)

    @property
    def clip_bytes(self) -> int:
        """Bytes that a clip leaves: its derivatives."""
        return self.passes * self.songs * _BYTES_OF_DERIVATIVE


@dataclass(frozen=True)
class Costs:
    """Seconds of one CPU.

    Attributes:
        start_s: until a process has opened the training.
        training_s: a training.
        recorded_s: a training with its record.
        reverse_s: all of its steps backwards, for one question.
        pass_s: a pass for one question.
        ask_s: losses of all questions about a clip.
    """

    start_s: float
    training_s: float
    recorded_s: float
    reverse_s: float
    pass_s: float
    ask_s: float

    def clip_s(self, work: Work, workers: int) -> float:
        """Seconds until a clip is answered, where the gate was passed before; passes run at once where CPUs do.

        The training is opened twice before: for its number of steps, and to see that it is recorded.
        """
        return 2 * self.start_s + math.ceil(work.passes / workers) * (self.start_s + self.pass_s)

    def gate_s(self, work: Work, workers: int) -> float:
        """Seconds that the first clip takes besides."""
        return (
            math.ceil(REMOVALS / workers) * (self._without_s(work, work.removed) + self.ask_s)
            + self.start_s
            + self.ask_s
        )

    def singles_s(self, work: Work, workers: int) -> float:
        """Seconds of the trainings that leave each song out once, each asked about one clip."""
        return math.ceil(work.songs / workers) * (self._without_s(work, 1) + self.ask_s)

    def singles_pay_from(self, work: Work) -> int | None:
        """From how many clips on it is less work to leave every song out once; None where it never is."""
        gate_s = REMOVALS * (self._without_s(work, work.removed) + self.ask_s)
        ahead_s = work.songs * self._without_s(work, 1) - gate_s
        each_s = work.passes * (self.start_s + self.pass_s) - work.songs * self.ask_s
        return max(1, math.floor(ahead_s / each_s) + 1) if each_s > 0 else None

    def _without_s(self, work: Work, songs: int) -> float:
        """Seconds of a training without so many songs, whose windows are not computed."""
        return self.start_s + self.training_s * (1 - songs / work.songs)


def draw_sample(songs: Sequence[Tensor], captions: Sequence[str | None], plan: Plan) -> Sample:
    """Choose steps of a training by their sizes; see `Sample`.

    Args:
        songs: int64 `[K, T]` each.
    """
    windows = cut_windows(songs, plan.window_frames)
    lengths = [window_KT.shape[1] for _, window_KT in windows]
    steps = order(lengths, plan)
    by_size = sorted(steps, key=lambda step: (sum(lengths[i] for i in step), lengths[step[0]]))
    middles = [by_size[(2 * part + 1) * len(by_size) // (2 * _MANY)] for part in range(_MANY)]
    chosen = [by_size[-1], *middles[1::3], *middles[0::3], *middles[2::3]]
    used = sorted({i for step in chosen for i in step})
    place = {i: n for n, i in enumerate(used)}
    longest = sorted(range(len(windows)), key=lambda i: -lengths[i])[:QUERY_CHUNKS]
    return Sample(
        windows=tuple(windows[i][1].clone() for i in used),
        captions=tuple(captions[windows[i][0]] for i in used),
        steps=tuple(tuple(place[i] for i in step) for step in chosen),
        clip=tuple(windows[longest[n % len(longest)]][1].clone() for n in range(QUERY_CHUNKS)),
        plan=plan,
        total=len(steps),
    )


def clip_questions(sample: Sample) -> list[Group]:
    """Ask about a sample's clip as `lumina attribute --replay` does about its own."""
    chunks = tuple(chunk_KT.numpy().astype(np.uint16) for chunk_KT in sample.clip)
    return list(questions(SongCodes(chunks, tuple(map(float, range(len(chunks)))))).values())


def measure(sample: Sample, learner: Learner) -> Measured:
    """Train on a sample's steps, and carry the adjoint of a question back over each. The learner is changed."""
    training, groups = sample.training(learner), clip_questions(sample)
    record = Record(Path(), training, (1.0,) * len(sample.windows), {})
    gradient_s, gradients_QP = timed(loss_gradients, training, groups[:1])
    ask_s, _ = timed(group_losses, training, groups)
    zeros_QP = torch.zeros_like(gradients_QP)
    adjoint, derivatives_QN = Adjoint(gradients_QP, zeros_QP, zeros_QP), np.zeros((1, len(sample.windows)))
    moments, before = training.run(record.weights_N), training.start()
    took: list[tuple[float, float, float]] = []
    begin_s = time.perf_counter()
    for number in range(len(sample.steps)):
        if number == 1 + _FEW and time.perf_counter() - begin_s > _QUICK_S:
            break
        learn_s, moment = timed(next, moments)
        hash_s, _ = timed(digests, training)
        state_s, after = timed(moment.state)
        copy_s, clipped_P = timed(moment.gradient)
        replayed = Replayed(before, after, clipped_P, moment.norm)
        reverse_s, _ = timed(backwards, record, replayed, adjoint, derivatives_QN)
        took.append((learn_s, hash_s + state_s + copy_s, reverse_s))
        before = after
    # The first step also makes what all others use.
    learn, keep, reverse = zip(*took[1:], strict=True)
    return Measured(
        learn_s=learn,
        keep_s=keep,
        reverse_s=reverse,
        frames=tuple(sample.frames[1 : len(took)]),
        gradient_s=gradient_s,
        ask_s=ask_s,
        process_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        vector_bytes=before.theta_P.numel() * before.theta_P.element_size(),
        parameters=len(training.parameters),
    )


def costs(measured: Sequence[Measured], work: Work, start_s: float, state_s: float) -> Costs:
    """Extrapolate what some processes measured to all steps of a training.

    Args:
        start_s: seconds until a process has opened the training.
        state_s: seconds in which a state is read.
    """
    learn_s, keep_s, reverse_s = (
        work.steps * float(np.mean([value for one in measured for value in getattr(one, name)]))
        for name in ("learn_s", "keep_s", "reverse_s")
    )
    gradient_s, ask_s = (float(np.mean([getattr(one, name) for one in measured])) for name in ("gradient_s", "ask_s"))
    return Costs(
        start_s=start_s,
        training_s=learn_s,
        recorded_s=learn_s + keep_s,
        reverse_s=reverse_s,
        pass_s=gradient_s + learn_s + keep_s + reverse_s + work.reads * state_s,
        ask_s=ask_s,
    )
