"""Unlearning on a bank: scores for a report card, ranks of a song when it is forgotten itself, agreement of methods.

Shape legend: N = songs, Q = queries, K = codebooks.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from lumina_ray.model.interface import AttributableModel
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import members
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.models import with_weights
from lumina_ray.truth.queries import QUERY_FRAMES, TRAINED_FRAMES, Query
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.forget import joined
from lumina_ray.unlearning.losses import code_losses, song_gradient
from lumina_ray.unlearning.scores import Rises, Score, rises
from lumina_ray.unlearning.select import Layers, select_parts
from lumina_ray.unlearning.unlearn import Forgetting, inverse_fisher
from lumina_ray.vocabulary import STORED_AS, Channel, SongCodes


def song_codes(codes_KT: Tensor, frame_rate_hz: float, heard_T: Tensor | None = None) -> SongCodes:
    """Cut codes or latents of a bank into chunks of 10 s, as fingerprints see them.

    Args:
        codes_KT: int64, or float32.
        heard_T: which frames hold sound, bool; all of them by default.
    """
    stored = STORED_AS["latents" if codes_KT.is_floating_point() else "codes"]
    parts = [slice(start, start + QUERY_FRAMES) for start in range(0, codes_KT.shape[1], QUERY_FRAMES)]
    return SongCodes(
        tuple(codes_KT[:, part].numpy().astype(stored) for part in parts),
        tuple(part.start / frame_rate_hz for part in parts),
        () if heard_T is None else tuple(heard_T[part].numpy() for part in parts),
    )


def query_codes(query: Query, frame_rate_hz: float) -> SongCodes:
    """A query's codes as fingerprints see them."""
    return song_codes(query.codes_KT, frame_rate_hz, query.heard_T)


def model_with_fisher(
    bank: Bank, weights: str, catalog: Sequence[int], frames: int = TRAINED_FRAMES
) -> TransformersMusicGen:
    """Open a bank's model, with its Fisher information over the beginnings of some recordings."""
    model = with_weights(bank.recipe, bank.models[weights], bank.text)
    model.fisher = fisher_diagonal(model, beginnings(bank, model, catalog, frames))
    return model


def beginnings(bank: Bank, model: TransformersMusicGen, recordings: Sequence[int], frames: int) -> list[SongCodes]:
    """Codes of the beginnings of some recordings."""
    pieces = [bank.learned(i).beginning(frames) for i in recordings]
    return [song_codes(piece.codes_KT, model.frame_rate_hz, piece.heard_T) for piece in pieces]


@dataclass(frozen=True)
class ForgottenScores:
    """What became of the losses of an evaluation set's songs, for each of its queries.

    Attributes:
        of_queries: in the order of the queries.
        n_songs: N.
        seconds_per_song: processor time of a song of 15 s, for each query.
    """

    of_queries: list[Rises]
    n_songs: int
    seconds_per_song: float

    def matrix(self, score: Score = "plain", channel: Channel | None = None) -> np.ndarray:
        """Scores, float64 `[Q, N]`."""
        rows = [one.of(score, channel) for one in self.of_queries]
        return np.array(rows).reshape(len(rows), self.n_songs)


def forgotten_scores(
    bank: Bank, weights: str, asked: EvaluationSet, how: Forgetting = Forgetting(), frames: int = TRAINED_FRAMES
) -> ForgottenScores:
    """Let one of a bank's models forget each query of an evaluation set.

    Args:
        weights: name of the model; its Fisher information is measured over the audited model's catalog.
        frames: of every song, from its beginning.
    """
    if not asked.queries:
        return ForgottenScores([], len(asked.songs), 0.0)
    model = model_with_fisher(bank, weights, members(bank.recordings, asked.model), frames)
    songs = beginnings(bank, model, asked.songs, frames)
    before = [code_losses(model, song) for song in songs]
    found = []
    begin_s = time.process_time()
    for query in asked.queries:
        codes = query_codes(query, model.frame_rate_hz)
        assert model.fisher is not None
        found.append(rises(model, codes, songs, before, model.fisher, how)[0])
    seconds = time.process_time() - begin_s
    n_frames = sum(sum(song.frames) for song in songs) * len(found)
    return ForgottenScores(found, len(songs), seconds / n_frames * TRAINED_FRAMES)


class Gradients:
    """Gradients of several pieces of music by every parameter of a model, for first-order scores of many kinds.

    Attributes:
        flat_nD: float32, a row for each piece.
    """

    def __init__(self, model: AttributableModel, pieces: Sequence[SongCodes]) -> None:
        """Differentiate each piece's loss."""
        self._model = model
        parts = select_parts(model, "all")
        starts = np.cumsum([0, *(part.values.numel() for part in parts)])
        self._start = {id(part.parameter): int(start) for part, start in zip(parts, starts, strict=False)}
        self.flat_nD = torch.empty(len(pieces), int(starts[-1]))
        for row_D, codes in zip(self.flat_nD, pieces, strict=True):
            _, gradients = song_gradient(model, codes, parts)
            torch.cat([gradient.flatten() for gradient in gradients], out=row_D)

    def of(self, layers: Layers) -> Tensor:
        """The columns of a choice of layers, float32 `[n, d]`."""
        return torch.cat([self.flat_nD[:, where] for where in self._places(layers)], dim=1)

    def _places(self, layers: Layers) -> list[slice]:
        places = []
        for part in select_parts(self._model, layers):
            start, row = self._start[id(part.parameter)], part.parameter[0].numel()
            places.append(slice(start + part.rows.start * row, start + part.rows.stop * row))
        return places


def metric(model: AttributableModel, layers: Layers, damping: float | None) -> Tensor:
    """`1 / (F + λ)` of a choice of layers end to end, float64 `[d]`; ones where there is no damping, and no F."""
    parts = select_parts(model, layers)
    if damping is None:
        return torch.ones(sum(part.values.numel() for part in parts), dtype=torch.float64)
    assert model.fisher is not None
    return torch.cat([values.flatten() for values in inverse_fisher(model.fisher, parts, damping)])


def first_order_scores(queries_Qd: Tensor, songs_Nd: Tensor, metric_d: Tensor) -> np.ndarray:
    """Scores of songs by the slope alone, float64 `[Q, N]`: inner products of gradients in a metric.

    Args:
        queries_Qd, songs_Nd: float32 gradients.
        metric_d: of `metric`.
    """
    root_d = metric_d.sqrt()
    # Roots of large inverses are scaled, so that products stay in the range of float32.
    root_d = (root_d / root_d.max()).float()
    return ((queries_Qd * root_d) @ (songs_Nd * root_d).T).double().numpy()


def half_silent(codes: SongCodes, silence_KT: np.ndarray, *, masked: bool) -> SongCodes:
    """The first half of a song's first chunk, and silence to its end.

    Args:
        silence_KT: codes or latents of silence of at least the chunk's length.
        masked: whether the silence is marked as such; otherwise it counts as sound.
    """
    (chunk_KT, *_), (start_s, *_) = codes.chunks, codes.starts_s
    n = chunk_KT.shape[1]
    half = np.concatenate([chunk_KT[:, : n // 2], silence_KT[:, n // 2 : n].astype(chunk_KT.dtype)], axis=1)
    return SongCodes((half,), (start_s,), ((np.arange(n) < n // 2) | (not masked),))


def ranks_of_own_song(scores_QN: np.ndarray, own_Q: Sequence[int]) -> np.ndarray:
    """Rank of each query's own song, int64 `[Q]`: 1 and the number of songs whose score is larger."""
    own_Q1 = scores_QN[np.arange(len(scores_QN)), own_Q][:, None]
    return 1 + (scores_QN > own_Q1).sum(axis=1)


def correlations(scores_QN: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Mean over queries of the rank correlation, over songs, of each pair of methods' scores."""
    ranks = {name: rankdata(values, axis=1) for name, values in scores_QN.items()}
    centred = {name: values - values.mean(axis=1, keepdims=True) for name, values in ranks.items()}
    units = {
        name: values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-300)
        for name, values in centred.items()
    }
    return {
        (one, other): float((units[one] * units[other]).sum(axis=1).mean()) for one in scores_QN for other in scores_QN
    }


@dataclass(frozen=True)
class ForgettingOrRetraining:
    """Songs that a model was made to forget, beside one that was trained without them; all in nats per code.

    Attributes:
        training: name of the retrained model.
        n_removed: songs.
        distance: root mean square, over queries, of the copy's loss less the retrained model's.
        untouched: the same of the model as it was: how far retraining moves it.
        spearman: over queries, of the rise of their losses by either.
        own_forgotten, own_retrained: mean rise of queries made of the removed songs.
        others_forgotten, others_retrained: of all other queries.
    """

    training: str
    n_removed: int
    distance: float
    untouched: float
    spearman: float
    own_forgotten: float
    own_retrained: float
    others_forgotten: float
    others_retrained: float


def forgetting_and_retraining(
    bank: Bank, model: TransformersMusicGen, trainings: Sequence[int], queries: Sequence[Query], how: Forgetting
) -> list[ForgettingOrRetraining]:
    """Forget what trainings left out of catalog A, and compare what becomes of queries.

    Args:
        model: model A with its Fisher information.
        trainings: positions among the bank's.
        queries: of the bank, with queries made of what is left out.
    """
    assert model.fisher is not None
    catalog = members(bank.recordings, "A")
    # Silent frames count in a bank's losses.
    pieces = [song_codes(query.codes_KT, model.frame_rate_hz) for query in queries]
    before = [code_losses(model, piece) for piece in pieces]
    losses_RQ = bank.losses_RQK[:, bank.columns(queries)].mean(axis=2, dtype=np.float64)
    (audited,) = (row for row, training in enumerate(bank.trainings) if training.name == "A")
    out = []
    for row in trainings:
        removed = sorted(set(catalog) - set(bank.trainings[row].songs))
        own = np.array([query.recording in removed for query in queries])
        songs = joined(beginnings(bank, model, removed, TRAINED_FRAMES))
        forgotten_Q = rises(model, songs, pieces, before, model.fisher, how)[0].of("plain")
        retrained_Q = losses_RQ[row] - losses_RQ[audited]
        out.append(
            ForgettingOrRetraining(
                training=bank.trainings[row].name,
                n_removed=len(removed),
                distance=root_mean_square(forgotten_Q - retrained_Q),
                untouched=root_mean_square(retrained_Q),
                spearman=correlations({"a": forgotten_Q[None], "b": retrained_Q[None]})["a", "b"],
                own_forgotten=float(forgotten_Q[own].mean()),
                own_retrained=float(retrained_Q[own].mean()),
                others_forgotten=float(forgotten_Q[~own].mean()),
                others_retrained=float(retrained_Q[~own].mean()),
            )
        )
    return out


def root_mean_square(values: np.ndarray) -> float:
    """The root of the mean of squares."""
    return float(np.sqrt((values**2).mean()))
