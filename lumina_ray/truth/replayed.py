"""Trainings of a bank's models as replays, whose derivatives are compared with what retraining says."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.reverse import Group
from lumina_ray.replay.training import Training as ReplayTraining
from lumina_ray.truth.models import Start, with_weights
from lumina_ray.truth.queries import TRAINED_FRAMES, Query
from lumina_ray.truth.recipe import Recipe, Training


@dataclass(frozen=True)
class Replayable:
    """Training of a bank's model, to be recorded or replayed.

    Attributes:
        training: on the songs that it learns from and on those that only keep their places.
        songs: their positions in the corpus.
        weights_N: 1 for those that it learns from, 0 for the others.
    """

    training: ReplayTraining
    songs: tuple[int, ...]
    weights_N: tuple[float, ...]


def replayable(
    recipe: Recipe, training: Training, codes: Sequence[Tensor], start: Start, device: str = "cpu"
) -> Replayable:
    """Make the training of a bank's model anew, with the start, order and texts of `lumina_ray.truth.models`.

    Args:
        codes: whole recordings' codes, int64 `[K, T]`, by position in the corpus.
        start: what the model starts from.
    """
    songs = tuple(sorted({*training.songs, *training.removed}))
    learned = set(training.songs)
    return Replayable(
        ReplayTraining(
            DecoderLearner(with_weights(recipe, start.weights, device, start.text)),
            [codes[i][:, :TRAINED_FRAMES] for i in songs],
            [start.captions[i] for i in songs],
            Plan(training.seed, recipe.epochs, recipe.batch),
        ),
        songs,
        tuple(float(i in learned) for i in songs),
    )


def as_group(queries: Sequence[Query], codebook: int | None = None) -> Group:
    """Make one scalar of queries: their mean loss under the texts that the bank asks about them under."""
    texts = tuple(query.caption or CONDITION_TEXT for query in queries)
    return Group(tuple(query.codes_KT for query in queries), texts, codebook)
