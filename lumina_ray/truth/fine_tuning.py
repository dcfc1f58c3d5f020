"""Trains a model of a bank so smoothly that leaving a song out has an effect in proportion to its weight.

Every model starts from one base model, which knows other music, and learns its songs by AdamW at a small rate. Removed
songs keep their places in the order and have weight 0, so that two models differ by nothing but what they learned.
Replaying such a training (`lumina_ray.replay`) predicts removals; with Muon, or from random weights at a fast rate,
chaos hides them (Park et al. 2025, arXiv:2504.16430, call trainings of the first kind metasmooth).
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.replay.plan import Plan, order
from lumina_ray.replay.plan import rate as rate_of
from lumina_ray.replay.training import Training

_PLAN = Plan()
WINDOW_FRAMES = _PLAN.window_frames
"""Songs are cut where fingerprints cut them: a bank asks models about the sequences that they learned."""
RATE = _PLAN.rate


def fine_tune(
    model: TransformersMusicGen,
    songs: Sequence[Tensor],
    captions: Sequence[str | None],
    learned: Sequence[bool],
    *,
    epochs: float,
    batch: int,
    seed: int,
) -> Iterator[tuple[int, int]]:
    """Train the decoder of `model` in place; its text encoder stays as it is.

    Args:
        songs: codes, int64 `[K, T]` each, of the songs that learn and of those that only keep their places.
        captions: one for each song; None for a song without.
        learned: whether each song has weight 1; the others have weight 0.
        epochs: passes over all songs.
        batch: windows of 10 s in a step; of shorter windows, as many as have that many frames together.
        seed: of the order of windows and of their texts.

    Yields:
        After each step: its number, from 1, and the number of all steps.
    """
    training = Training(DecoderLearner(model), songs, captions, Plan(seed, epochs, batch))
    for moment in training.run([float(one) for one in learned]):
        yield moment.step, len(training.steps)


def rate(step: int, steps: int) -> float:
    """Learning rate of a step, from 0: a linear warm-up over a quarter of the steps, then a cosine to a twentieth."""
    return rate_of(_PLAN, step, steps)


def count_steps(frames: Sequence[int], epochs: float, batch: int) -> int:
    """How many steps a training on windows of these lengths has."""
    return len(order(frames, Plan(epochs=epochs, batch=batch)))
