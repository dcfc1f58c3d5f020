"""A training as a function of the weight of each song: the same order, texts and steps, whatever the weights are.

The loss of a step is divided by all windows that were drawn, so that what others weigh does not depend on how many are
removed. A song at weight 0 keeps its places in the order.

Shape legend: N = songs, P = numbers that learn, B = windows of a step, K = codebooks, T = frames.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lumina_ray.errors import UsageError
from lumina_ray.replay.learner import Learner
from lumina_ray.replay.plan import Plan, order, rate
from lumina_ray.training.captions import draw_text
from lumina_ray.training.data import step_generator


@dataclass(frozen=True)
class State:
    """Weights and optimizer between two steps, on the CPU, each `[P]` in the order of the module's parameters.

    Attributes:
        step: how many steps are done.
        theta_P: the weights.
        first_P, second_P: AdamW's moments.
    """

    step: int
    theta_P: Tensor
    first_P: Tensor
    second_P: Tensor


@dataclass(frozen=True)
class Batch:
    """The windows of a step.

    Attributes:
        codes_BKT: int64.
        texts: that the windows are learned under.
        songs: which song each window is from.
        lr: rate of learning.
    """

    codes_BKT: Tensor
    texts: tuple[str | None, ...]
    songs: tuple[int, ...]
    lr: float


@dataclass(frozen=True)
class Moment:
    """A training after one of its steps. Ask before the next step, which overwrites what this shows.

    Attributes:
        step: how many steps are done.
        norm: of the gradient before it was clipped.
    """

    step: int
    norm: float
    _parameters: list[nn.Parameter]
    _optimizer: torch.optim.Optimizer

    def state(self) -> State:
        """Copy weights and optimizer to the CPU."""
        of = [self._optimizer.state[parameter] for parameter in self._parameters]
        return State(
            self.step,
            _flat(self._parameters),
            _flat(one["exp_avg"] for one in of),
            _flat(one["exp_avg_sq"] for one in of),
        )

    def gradient(self) -> Tensor:
        """Copy the step's clipped gradient to the CPU: `[P]`."""
        return _flat(parameter.grad for parameter in self._parameters)


class Training:
    """A learner, songs, and a plan.

    Attributes:
        learner, plan: as given.
        songs: codes, int64 `[K, T]` each.
        captions: one for each song; None for a song without.
        steps: which windows each step has.
    """

    def __init__(
        self, learner: Learner, songs: Sequence[Tensor], captions: Sequence[str | None], plan: Plan = Plan()
    ) -> None:
        """Args: see the attributes; the learner's weights are the start.

        Raises:
            UsageError: no songs, or not one caption for each.
        """
        if not songs or len(songs) != len(captions):
            raise UsageError(f"a training needs songs and one caption for each; got {len(songs)} and {len(captions)}")
        self.learner, self.plan = learner, plan
        self.songs, self.captions = tuple(songs), tuple(captions)
        self._windows = cut_windows(songs, plan.window_frames)
        self.steps = order([window_KT.shape[1] for _, window_KT in self._windows], plan)
        self._start_P = self.weights()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The module that learns."""
        return list(self.learner.module.parameters())

    def start(self) -> State:
        """The state before the first step."""
        return State(0, self._start_P.clone(), torch.zeros_like(self._start_P), torch.zeros_like(self._start_P))

    def weights(self) -> Tensor:
        """Copy the learner's present weights: `[P]`."""
        return _flat(self.parameters)

    def set_weights(self, theta_P: Tensor) -> None:
        """Give the learner other weights, `[P]`."""
        with torch.no_grad():
            for parameter, values in zip(self.parameters, self.split(theta_P), strict=True):
                parameter.copy_(values)

    def split(self, flat_P: Tensor) -> list[Tensor]:
        """Split `[P]` into views of the parameters' shapes."""
        parameters = self.parameters
        parts = flat_P.split([parameter.numel() for parameter in parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]

    def batch(self, step: int) -> Batch:
        """The windows of a step, from 0."""
        drawn = self.steps[step]
        # A generator for each window: how much a removed song's caption draws changes no other text.
        generators = [step_generator(self.plan.seed, step * len(self._windows) + place) for place in range(len(drawn))]
        captions = [self.captions[self._windows[i][0]] for i in drawn]
        texts = tuple(map(draw_text, captions, generators))
        return Batch(
            torch.stack([self._windows[i][1] for i in drawn]),
            texts,
            tuple(self._windows[i][0] for i in drawn),
            rate(self.plan, step, len(self.steps)),
        )

    def losses(self, codes_BKT: Tensor, texts: Sequence[str | None]) -> Tensor:
        """Loss of each window, `[B]`, in nats per code: the mean over codebooks."""
        losses_BK = self.learner.losses(codes_BKT.to(self.learner.device), texts)
        return losses_BK @ losses_BK.new_full((losses_BK.shape[1],), 1 / losses_BK.shape[1])

    def run(self, weights_N: Sequence[float], state: State | None = None) -> Iterator[Moment]:
        """Train the learner in place from a state, by default from the start, to the end of the plan.

        Args:
            weights_N: of each song; 1 for one that is learned from, 0 for one that only keeps its places.

        Yields:
            The moment after each step.
        """
        state = state or self.start()
        self.set_weights(state.theta_P)
        parameters = self.parameters
        optimizer = torch.optim.AdamW(
            parameters, betas=self.plan.betas, eps=self.plan.epsilon, weight_decay=self.plan.weight_decay
        )
        for parameter, first, second in zip(
            parameters, self.split(state.first_P), self.split(state.second_P), strict=True
        ):
            # Not None: a step counts for all parameters, also where all of its windows have weight 0.
            parameter.grad = torch.zeros_like(parameter)
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": first.to(parameter.device, copy=True),
                "exp_avg_sq": second.to(parameter.device, copy=True),
            }
        for step in range(state.step, len(self.steps)):
            batch = self.batch(step)
            optimizer.param_groups[0]["lr"] = batch.lr
            optimizer.zero_grad(set_to_none=False)
            kept = [place for place, song in enumerate(batch.songs) if weights_N[song] != 0]
            if kept:
                losses_B = self.losses(batch.codes_BKT[kept], [batch.texts[place] for place in kept])
                weights_B = losses_B.new_tensor([weights_N[batch.songs[place]] for place in kept])
                ((losses_B * weights_B).sum() / len(batch.songs)).backward()
            norm = nn.utils.clip_grad_norm_(parameters, self.plan.clip)
            optimizer.step()
            yield Moment(step + 1, float(norm), parameters, optimizer)


def cut_windows(songs: Sequence[Tensor], frames: int) -> list[tuple[int, Tensor]]:
    """Cut songs, `[K, T]` each, into windows of so many frames, each with its song's number; the last is shorter."""
    return [
        (number, song_KT[:, begin : begin + frames])
        for number, song_KT in enumerate(songs)
        for begin in range(0, song_KT.shape[1], frames)
    ]


def _flat(tensors: Iterable[Tensor | None]) -> Tensor:
    return torch.cat([tensor.detach().cpu().flatten() for tensor in tensors if tensor is not None])
