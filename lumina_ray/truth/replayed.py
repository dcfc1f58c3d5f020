"""Trainings of a bank's models as replays, whose derivatives are compared with what retraining says.

A bank may keep derivatives of model A's training beside itself, in `replayed.json`: truth about each song, without the
noise of retraining.

Shape legend: Q = scalars, N = songs, R = trainings.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path, read_file
from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.replay.gate import judge, predicted_effects
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.reverse import Group
from lumina_ray.replay.training import Training as ReplayTraining
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.measures import lds
from lumina_ray.truth.method_rows import MethodRow
from lumina_ray.truth.models import Start, Weights, with_weights
from lumina_ray.truth.queries import TRAINED_FRAMES, Query, Split
from lumina_ray.truth.recipe import Recipe, Training
from lumina_ray.truth.scores import BOTH

REPLAYED_FILE = "replayed.json"
ASKED = {"excerpt": ("excerpt",), "captioned": ("captioned",), "continuations": ("prompted", "continued")}
"""Kinds of queries that are replayed, by the name of their measure of agreement."""
MIN_QUERIES = 8
"""Fewer queries of a kind say too little for a row of the report card."""


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


def predicted_and_actual(
    bank: Bank, prefix: str, columns: Sequence[Sequence[int]], songs: Sequence[int], derivatives_QN: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give what derivatives predict of the bank's trainings without songs, and what came of them: float64 `[R, Q]`.

    See `removal_agreement`.
    """
    rows = [row for row in bank.of_kind(prefix) if bank.trainings[row].removed]
    whole = [training.name for training in bank.trainings].index("A")
    losses_RA = bank.losses_RQK.mean(axis=2, dtype=np.float64)
    actual_RQ = np.stack([(losses_RA[rows] - losses_RA[whole])[:, list(of)].mean(axis=1) for of in columns], axis=1)
    place = {song: n for n, song in enumerate(songs)}
    removals = [[place[song] for song in bank.trainings[row].removed] for row in rows]
    return predicted_effects(derivatives_QN, (1.0,) * len(songs), removals), actual_RQ


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
    predicted_RQ, actual_RQ = predicted_and_actual(bank, prefix, columns, songs, derivatives_QN)
    gate = judge("", predicted_RQ, actual_RQ)
    ranks = [spearmanr(x_R, y_R).statistic for x_R, y_R in zip(predicted_RQ.T, actual_RQ.T, strict=True)]
    return RemovalAgreement(len(actual_RQ), gate.r, gate.slope, float(np.nan_to_num(ranks).mean()))


@dataclass(frozen=True)
class Scalar:
    """Mean loss of some queries, and its derivatives.

    Attributes:
        kind: of the queries, a name of `ASKED`.
        queries: positions in the bank's.
        derivatives: with respect to the weight of each song, in nats per code; N, in the order of `Replayed.songs`.
    """

    kind: str
    queries: tuple[int, ...]
    derivatives: tuple[float, ...] = ()


@dataclass(frozen=True)
class Replayed:
    """Derivatives of the training of a bank's model A.

    Attributes:
        record: identity of the recorded training.
        asked_sha256: hash of model A and of the queries that were asked.
        songs: positions in the corpus.
    """

    record: str
    asked_sha256: str
    songs: tuple[int, ...]
    scalars: tuple[Scalar, ...]

    def derivatives(self, scalars: Sequence[Scalar]) -> np.ndarray:
        """Derivatives of some scalars: float64 `[Q, N]`."""
        return np.array([scalar.derivatives for scalar in scalars], np.float64).reshape(-1, len(self.songs))

    def of_kind(self, kind: str, *, alone: bool) -> list[Scalar]:
        """Scalars of one kind: those of one query each, or the means of several."""
        return [one for one in self.scalars if one.kind == kind and (len(one.queries) == 1) == alone]


def scalars_of(bank: Bank, split: Split, alone: int) -> Iterator[Scalar]:
    """Choose what is replayed: the mean of all queries of each kind, then some queries of each kind by themselves.

    Args:
        alone: how many of each kind; a larger number begins with those of a smaller one.
    """
    of_kinds = {
        name: [
            q
            for q, query in enumerate(bank.queries)
            if query.kind in kinds and (query.model, query.split) == ("A", split)
        ]
        for name, kinds in ASKED.items()
    }
    for name, queries in of_kinds.items():
        if queries:
            yield Scalar(name, tuple(queries))
    orders = {name: random.Random(f"replay {name}").sample(queries, len(queries)) for name, queries in of_kinds.items()}
    for number in range(alone):
        for name, order in orders.items():
            if number < len(order):
                yield Scalar(name, (order[number],))


def hash_of_asked(bank: Bank, scalars: Sequence[Scalar]) -> str:
    """Hash model A and the queries of some scalars: derivatives of others say nothing about this bank."""
    digest = hashlib.sha256(_weights_sha256(bank.models["A"]).encode())
    for scalar in scalars:
        digest.update(b"mean of")
        for query in (bank.queries[q] for q in scalar.queries):
            digest.update(f"{query.kind} {query.caption!r} {tuple(query.codes_KT.shape)}".encode())
            digest.update(query.codes_KT.numpy().tobytes())
    return digest.hexdigest()


def save_replayed(replayed: Replayed, path: Path) -> None:
    """Write derivatives as JSON, to six digits."""
    values = asdict(replayed)
    for scalar in values["scalars"]:
        scalar["derivatives"] = [float(f"{value:.6g}") for value in scalar["derivatives"]]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values) + "\n")


def load_replayed(folder: Path, bank: Bank) -> Replayed | None:
    """Read the derivatives that a bank keeps beside itself; None where it has none.

    Raises:
        StoreError: damaged, or of another model or other queries than the bank's.
    """
    path = folder / REPLAYED_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(read_file(path))
        scalars = tuple(
            Scalar(one["kind"], tuple(one["queries"]), tuple(one["derivatives"])) for one in values["scalars"]
        )
        found = Replayed(values["record"], values["asked_sha256"], tuple(values["songs"]), scalars)
        found.derivatives(scalars)
        same = hash_of_asked(bank, scalars) == found.asked_sha256
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StoreError(f"{path}: damaged ({error!r}); `python -m benchmarks.replay` makes it again") from error
    if not same:
        raise StoreError(f"{path}: of another model or other queries; `python -m benchmarks.replay` makes it again")
    return found


def replay_row(bank: Bank, replayed: Replayed, split: Split) -> tuple[MethodRow | None, list[str]]:
    """Hold replays against random halves, as the report card does with fingerprints.

    Returns:
        A row, or None where no kind has enough queries; and a sentence for each kind that has too few.
    """
    rows = bank.of_kind("half-")
    masks_RN = bank.masks(rows, list(replayed.songs))
    measures, missing = {}, []
    for kind in ASKED:
        alone = [one for one in replayed.of_kind(kind, alone=True) if bank.queries[one.queries[0]].split == split]
        if len(alone) < MIN_QUERIES:
            missing.append(
                f"Not measured: LDS of replays on {kind}: {len(alone)} queries are replayed, and {MIN_QUERIES} are the "
                "least."
            )
            continue
        losses_RQ = bank.losses_RQK[np.ix_(rows, [one.queries[0] for one in alone])].mean(axis=2, dtype=np.float64)
        # Leaving out a song raises the loss by minus the derivative.
        measures[f"lds_{kind}"] = lds(-replayed.derivatives(alone), masks_RN, losses_RQ)
    row = MethodRow("replay", BOTH, measures, {}, 0, 0.0) if measures else None
    return row, missing


def _weights_sha256(weights: Weights) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()
