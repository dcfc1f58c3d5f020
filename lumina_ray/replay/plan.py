"""The plan of a training that can be replayed: which windows each step has, and at which rate it learns."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from lumina_ray.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training besides its data, its start and the machine.

    The defaults are smooth: what leaving a song out changes is nearly in proportion to its weight
    (Park et al. 2025, arXiv:2504.16430, call such trainings metasmooth).

    Attributes:
        seed: of the order of windows and of their texts.
        epochs: passes over all songs.
        batch: windows of full length in a step; of shorter windows, as many as have that many frames together.
        window_frames: where songs are cut.
        rate: of learning, at its highest.
        warmup: part of the steps in which the rate rises.
        last_rate: what the rate falls to, as a part of the highest.
        epsilon: added to the root of the second moment.
        betas: decay of the first and of the second moment.
        weight_decay: of AdamW, per unit of the rate.
        clip: the largest norm of a gradient.
    """

    seed: int = 0
    epochs: float = 4.0
    batch: int = 4
    window_frames: int = 500
    rate: float = 1e-3
    warmup: float = 0.25
    last_rate: float = 0.05
    epsilon: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        positive = ("epochs", "batch", "window_frames", "rate", "epsilon", "clip")
        wrong = [name for name in positive if not 0 < getattr(self, name) < math.inf]
        wrong += [name for name in ("warmup", "last_rate", "weight_decay") if not 0 <= getattr(self, name) <= 1]
        wrong += ["betas"] * (not all(0 <= beta < 1 for beta in self.betas))
        if wrong:
            raise UsageError(f"a training cannot have {wrong[0]} = {getattr(self, wrong[0])}")


def order(frames: Sequence[int], plan: Plan) -> list[list[int]]:
    """Draw the windows of each step: each window once in a pass, windows of one length together.

    Args:
        frames: length of each window.
    """
    rng = random.Random(f"order {plan.seed}")
    of_length: dict[int, list[int]] = {}
    for i, n in enumerate(frames):
        of_length.setdefault(n, []).append(i)
    steps: list[list[int]] = []
    for _ in range(math.ceil(plan.epochs)):
        of_pass: list[list[int]] = []
        for n, windows in of_length.items():
            shuffled, size = rng.sample(windows, len(windows)), max(1, plan.batch * plan.window_frames // n)
            of_pass += [shuffled[begin : begin + size] for begin in range(0, len(shuffled), size)]
        steps += rng.sample(of_pass, len(of_pass))
    return steps[: round(len(steps) * plan.epochs / math.ceil(plan.epochs))]


def rate(plan: Plan, step: int, steps: int) -> float:
    """Learning rate of a step, from 0: a linear warm-up, then a cosine down to the last rate."""
    warmup = max(1, round(plan.warmup * steps))
    if step < warmup:
        return plan.rate * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return plan.rate * (plan.last_rate + (1 - plan.last_rate) * 0.5 * (1 + math.cos(math.pi * progress)))
