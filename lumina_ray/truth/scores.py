"""Scores of an evaluation set by a method, from fingerprints that were made before."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lumina_ray.errors import UsageError
from lumina_ray.methods import METHODS, Features, Method, attribute, cache
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.fingerprints import AllFingerprints, Fingerprints, checkpoints
from lumina_ray.truth.models import learning_rates
from lumina_ray.vocabulary import CHANNELS, Channel

BOTH: Literal["P+M"] = "P+M"
"""The sum of both channels' scores, each standardised: one score of influence, whatever the right."""
ScoredChannel = Channel | Literal["P+M"]

# Scores by forgetting come as vectors whose inner products they are.
_INNER_PRODUCTS = Method("inner products", "", METHODS["unlearning"].source, normalisation="none")


def scores(
    bank: Bank,
    method: Method,
    channel: ScoredChannel,
    asked: EvaluationSet,
    n_songs: int,
    made: AllFingerprints,
    *,
    relative: bool = False,
    weights: Sequence[str] | None = None,
) -> np.ndarray:
    """Score the first songs of an evaluation set for each of its queries: float64 `[Q, n_songs]`.

    Args:
        made: at least what `required_fingerprints` lists for the method.
        relative: take off the scores under the reference model.
        weights: that the fingerprints were made with; by default the audited model's (`checkpoints`).
    """
    if channel == BOTH:
        of_channels = (
            scores(bank, method, one, asked, n_songs, made, relative=relative, weights=weights) for one in CHANNELS
        )
        return np.sum([standardised(scores_QN) for scores_QN in of_channels], axis=0)
    audited = _scores(bank, method, channel, asked, n_songs, made, weights or checkpoints(method, asked.model))
    if not relative:
        return audited
    reference = _scores(bank, method, channel, asked, n_songs, made, ("reference",))
    return standardised(audited) - standardised(reference)


def control_scores(
    bank: Bank, method: Method, channel: Channel, asked: EvaluationSet, made: AllFingerprints
) -> np.ndarray:
    """Score the catalog's songs for each control of an evaluation set, as if it were a query: float64 `[C, n_catalog]`.

    Raises:
        UsageError: the method looks at nothing, or the evaluation set has no controls.
    """
    if method.kind is None:
        raise UsageError(f"method {method.name} looks at no music: controls have no scores")
    if not asked.controls:
        raise UsageError("the bank has no controls: nothing says what a score of nothing is")
    n_before = len(asked.songs) + len(asked.queries)
    of_checkpoints = [made[asked.model, name, method.kind] for name in checkpoints(method, asked.model)]
    where = slice(n_before, n_before + len(asked.controls))
    return _attributed(bank, method, channel, asked, asked.n_catalog, of_checkpoints, where)


def standardised(scores_QN: np.ndarray) -> np.ndarray:
    """Bring each query's scores to mean 0 and spread 1: lengths and levels of two models mean nothing to each other."""
    spread_Q1 = scores_QN.std(axis=1, keepdims=True)
    return (scores_QN - scores_QN.mean(axis=1, keepdims=True)) / np.where(spread_Q1 > 0, spread_Q1, 1)


def _scores(
    bank: Bank,
    method: Method,
    channel: Channel,
    asked: EvaluationSet,
    n_songs: int,
    made: AllFingerprints,
    weights: Sequence[str],
) -> np.ndarray:
    if method.source is None:
        return np.random.default_rng(0).standard_normal((len(asked.queries), n_songs))
    of_checkpoints = [made[asked.model, name, method.source] for name in weights]
    N, Q = len(asked.songs), len(asked.queries)
    return _attributed(bank, method, channel, asked, n_songs, of_checkpoints, slice(N, N + Q))


def _attributed(
    bank: Bank,
    method: Method,
    channel: Channel,
    asked: EvaluationSet,
    n_songs: int,
    of_checkpoints: Sequence[Fingerprints],
    queries: slice,
) -> np.ndarray:
    """Score the first songs for the fingerprints at some places."""
    if method.needs_model:
        method = _INNER_PRODUCTS
    rates = learning_rates(bank.recipe, asked.n_catalog)
    songs, of_queries = (_features(of_checkpoints, channel, where, rates) for where in (slice(n_songs), queries))
    return attribute(cache(method, songs), of_queries)


def _features(of_checkpoints: Sequence[Fingerprints], channel: Channel, where: slice, rates: np.ndarray) -> Features:
    probabilities = [one.probabilities for one in of_checkpoints if one.probabilities is not None]
    return Features(
        np.stack([one.vectors[channel][where] for one in of_checkpoints]),
        np.stack([one.norms[channel][where] for one in of_checkpoints]),
        of_checkpoints[0].blocks[channel],
        rates[-len(of_checkpoints) :],
        np.stack([p[where] for p in probabilities]) if probabilities else None,
    )
