"""Trainings of a bank's models as replays, whose derivatives are compared with what retraining says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.replay.gate import judge, predicted_effects
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.reverse import Group
from lumina_ray.replay.training import Training as ReplayTraining
from lumina_ray.truth.bank import Bank
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
            DecoderLearner(with_weights(recipe, start.weights, start.text, device)),
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


@dataclass(frozen=True)
class RemovalAgreement:
    """How well derivatives predict trainings without some songs.

    Attributes:
        models: how many trainings there are.
        r: correlation of predicted and actual effects over trainings, of each scalar about its mean.
        slope: by how much actual effects rise for each nat predicted, likewise.
        rank: mean over scalars of the rank correlation over trainings; 0 for one that does not move.
    """

    models: int
    r: float
    slope: float
    rank: float


def removal_agreement(
    bank: Bank, prefix: str, columns: Sequence[Sequence[int]], songs: Sequence[int], derivatives_QN: np.ndarray
) -> RemovalAgreement:
    """Compare the derivatives of model A's training with the bank's trainings without songs, from the same seed.

    Args:
        prefix: of the trainings' names, such as "tenth-".
        columns: which of the bank's queries each scalar is the mean of.
        songs: positions in the corpus, in the order of the derivatives.
        derivatives_QN: of each scalar with respect to the weight of each song.
    """
    rows = [row for row in bank.of_kind(prefix) if bank.trainings[row].removed]
    whole = [training.name for training in bank.trainings].index("A")
    losses_RA = bank.losses_RQK.mean(axis=2, dtype=np.float64)
    actual_RQ = np.stack([(losses_RA[rows] - losses_RA[whole])[:, list(of)].mean(axis=1) for of in columns], axis=1)
    place = {song: n for n, song in enumerate(songs)}
    removals = [[place[song] for song in bank.trainings[row].removed] for row in rows]
    predicted_RQ = predicted_effects(derivatives_QN, (1.0,) * len(songs), removals)
    gate = judge("", predicted_RQ, actual_RQ)
    ranks = [spearmanr(x_R, y_R).statistic for x_R, y_R in zip(predicted_RQ.T, actual_RQ.T, strict=True)]
    return RemovalAgreement(len(rows), gate.r, gate.slope, float(np.nan_to_num(ranks).mean()))
