"""Fingerprints of an evaluation set under the bank's models: the part of an evaluation that runs models."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from lumina_ray.errors import UsageError
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.companion_statistics import measure_companions
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.fingerprint.music_statistics import measure_music_statistics
from lumina_ray.methods import METHODS, Method
from lumina_ray.model import open_music_model
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.bank import BASE, Bank
from lumina_ray.truth.bigram import Bigram
from lumina_ray.truth.corpus import CATALOGS, Audited, members
from lumina_ray.truth.evaluation_set import AGAINST_REFERENCE, JUDGED, EvaluationSet
from lumina_ray.truth.models import new_model, with_weights
from lumina_ray.truth.queries import TRAINED_FRAMES, losses
from lumina_ray.truth.unlearning import ForgottenScores, beginnings, forgotten_scores, query_codes
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.vocabulary import CHANNELS, Channel, Kind, SongCodes

UNTRAINED, BIGRAM = "untrained", "bigram"
"""Names of weights that are in no bank: random ones of the recipe's size; and none at all (`Bigram`)."""
# Its codec made the codes of every bank (`cluster/truth.py`); that of a bank's own models is untrained.
_WITH_CODEC = "nano"
_UNLEARNING = METHODS["unlearning"].source
OF_RESIDUALS = {method.kind for method in METHODS.values() if method.residual}
"""Kinds of fingerprints that probabilities of pieces belong to."""


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of one kind under one set of weights: n = songs, then queries, then controls, per channel.

    Attributes:
        vectors: float32 `[n, D]` of unit length.
        norms: float64 `[n]`, the lengths that the vectors had.
        probabilities: float64 `[n]`, `exp(−loss)`; None for kinds that nobody asks for them with.
        blocks: how many tensors of its own each vector is made of.
        seconds_per_song: processor time for a song of 15 s, both channels.
        chunk_vectors: float32 `[chunks, D]` for each copy of the evaluation set; of kinds that are `JUDGED`.
        weights_sha256, specification_sha256: of what made them; empty where that has no specification.
    """

    vectors: dict[Channel, np.ndarray]
    norms: dict[Channel, np.ndarray]
    probabilities: np.ndarray | None
    blocks: dict[Channel, int]
    seconds_per_song: float
    chunk_vectors: dict[Channel, list[np.ndarray]]
    weights_sha256: str = ""
    specification_sha256: str = ""


FingerprintKey = tuple[Audited, str, Kind]
"""The audited model, the weights that made the fingerprints, and their kind (`Method.source`)."""
AllFingerprints = Mapping[FingerprintKey, Fingerprints]


def checkpoints(method: Method, model: str) -> tuple[str, ...]:
    """The bank's weights that a method works on, for an audited model."""
    return (model,) if method.checkpoints == "last" else (f"{model}-early", model)


def required_fingerprints(names: Sequence[str]) -> list[FingerprintKey]:
    """List the fingerprints that the rows of some methods take.

    Raises:
        UsageError: there is no method of a name.
    """
    if unknown := [name for name in names if name not in METHODS]:
        raise UsageError(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    required: dict[FingerprintKey, None] = {}
    models: tuple[Audited, ...] = ("A", "B")
    for method in (METHODS[name] for name in names):
        if method.source is not None:
            for model in models:
                relative = ("reference",) if method.name in AGAINST_REFERENCE else ()
                for weights in (*checkpoints(method, model), *relative):
                    required[model, weights, method.source] = None
    return list(required)


def make_fingerprints(
    bank: Bank, weights: str, kind: Kind, asked: EvaluationSet, *, stand_in: bool = False
) -> Fingerprints:
    """Fingerprint the songs, queries and controls of an evaluation set.

    Args:
        weights: the name of one of the bank's models, `UNTRAINED` or `BIGRAM`.
        stand_in: whether the weights stand in for those of the audited model: music statistics and companions are then
            measured on its catalog, whatever the weights learned from.
    """
    if kind == _UNLEARNING:
        return _of_forgetting(forgotten_scores(bank, weights, asked))
    codec_alone = find_kind(kind).needs == "codec"
    model = cast(TransformersMusicGen, open_music_model(_WITH_CODEC)) if codec_alone else model_of(bank, weights)
    if kind == "fisher":
        learned = members(bank.recordings, asked.model)
        model.fisher = fisher_diagonal(model, beginnings(bank, model, learned, TRAINED_FRAMES))
    if kind in ("influence", "companion"):
        catalog = asked.model if stand_in else next(name for name in CATALOGS if weights.startswith(name))
        songs_of = beginnings(bank, model, members(bank.recordings, catalog), TRAINED_FRAMES)
        if kind == "influence":
            measure_music_statistics(model, lambda: songs_of, range(len(songs_of)))
        else:
            beside = [model_of(bank, name) for name in companion_names(bank, weights)]
            measure_companions(model, beside, songs_of, range(len(songs_of)))
    songs, controls = (beginnings(bank, model, of, TRAINED_FRAMES) for of in (asked.songs, asked.controls))
    queries = [query_codes(query, model.frame_rate_hz) for query in asked.queries]
    copies = [queries[q] for q in asked.copies] if kind in JUDGED else []
    return fingerprint_pieces(model, kind, [*songs, *queries, *controls], copies, with_losses=kind in OF_RESIDUALS)


def fingerprint_pieces(
    model: TransformersMusicGen,
    kind: Kind,
    pieces: Sequence[SongCodes],
    copies: Sequence[SongCodes] = (),
    *,
    with_losses: bool = False,
) -> Fingerprints:
    """Fingerprint pieces of music.

    Args:
        copies: pieces whose chunks are fingerprinted, too.
        with_losses: whether the probabilities of the pieces are wanted.
    """
    specification = Specification.for_model(model, kind)
    fingerprinter = Fingerprinter(model, specification)
    begin_s = time.process_time()
    made = list(fingerprinter.many(pieces))
    seconds = time.process_time() - begin_s
    n_frames = sum(sum(piece.frames) for piece in pieces)
    in_chunks = list(fingerprinter.many(copies, per_chunk=True))
    return Fingerprints(
        vectors={c: np.stack([one.vectors[c] for one in made]) for c in CHANNELS},
        norms={c: np.array([one.norms[c] for one in made]) for c in CHANNELS},
        probabilities=_probabilities(model, pieces) if with_losses else None,
        blocks={c: specification.blocks(c) for c in CHANNELS},
        seconds_per_song=seconds / n_frames * TRAINED_FRAMES,
        chunk_vectors={c: [one.chunk_vectors[c] for one in in_chunks] for c in CHANNELS},
        weights_sha256=specification.weights_sha256,
        specification_sha256=specification.sha256,
    )


def companion_names(bank: Bank, weights: str) -> list[str]:
    """The models that stand beside some weights in `companion` fingerprints.

    They are their own earlier checkpoint, where the bank has it, and the model that all models start from; beside that
    model itself, one that is untrained.
    """
    names = [name for name in (f"{weights}-early", BASE) if name in bank.models and name != weights]
    return names or [UNTRAINED]


def _probabilities(model: TransformersMusicGen, pieces: Sequence[SongCodes]) -> np.ndarray:
    whole = [torch.from_numpy(np.concatenate(piece.chunks, axis=1).astype(np.int64)) for piece in pieces]
    return np.exp(-losses(model, whole).mean(axis=1, dtype=np.float64))


def model_of(bank: Bank, weights: str) -> TransformersMusicGen:
    """Make the model of one of the bank's weights, of `UNTRAINED` or of `BIGRAM`."""
    if weights not in (UNTRAINED, BIGRAM):
        return with_weights(bank.recipe, bank.models[weights], bank.text)
    untrained = new_model(bank.recipe, bank.text)
    # It has all that is asked of it here, and no more.
    return untrained if weights == UNTRAINED else cast(TransformersMusicGen, Bigram(untrained, bank.recipe.seed))


def _of_forgetting(found: ForgottenScores) -> Fingerprints:
    """Scores as vectors: a query's is its scores of all songs, and a song's has 1 at its own place and 0 elsewhere."""
    vectors, norms = {}, {}
    for channel in CHANNELS:
        scores_QN = found.matrix(channel=channel)
        length_Q = np.linalg.norm(scores_QN, axis=1)
        units_QN = scores_QN / np.where(length_Q > 0, length_Q, 1)[:, None]
        vectors[channel] = np.concatenate([np.eye(scores_QN.shape[1]), units_QN]).astype(np.float32)
        norms[channel] = np.concatenate([np.ones(scores_QN.shape[1]), length_Q])
    no_chunks: dict[Channel, list[np.ndarray]] = {channel: [] for channel in CHANNELS}
    return Fingerprints(vectors, norms, None, dict.fromkeys(CHANNELS, 1), found.seconds_per_song, no_chunks)
