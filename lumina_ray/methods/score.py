"""The two verbs of every method: `cache` a catalog, then `attribute` queries.

Shape legend: C = checkpoints, N = songs, Q = queries, D = dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.errors import UsageError
from lumina_ray.methods.features import Features
from lumina_ray.methods.kernel import kernel_scores
from lumina_ray.methods.method import Method
from lumina_ray.methods.preconditioner import precondition, precondition_by_own_moment, ridge_precondition


@dataclass(frozen=True)
class Cached:
    """A catalog, prepared for one method.

    C counts only the checkpoints that the method uses.

    Attributes:
        method: the method.
        vectors_CND: float64 vectors that queries' inner products are taken with.
        weights_C: float64 weights of the checkpoints' scores in their sum.
        factors_N: float64 factors on each song's summed score.
        centre_CD: float64 vector that is subtracted from each query.
        spread_CD: float64 numbers that a query is then divided by.
    """

    method: Method
    vectors_CND: np.ndarray
    weights_C: np.ndarray
    factors_N: np.ndarray
    centre_CD: np.ndarray
    spread_CD: np.ndarray


def cache(method: Method, catalog: Features, moments: Sequence[np.ndarray] | None = None) -> Cached:
    """Prepare a catalog for a method: everything that does not depend on a query.

    Args:
        method: the method.
        catalog: features of the catalog's songs.
        moments: second moments `[B, d, d]` for each checkpoint that the method uses, where `catalog` is a piece of a
            larger catalog (`cluster.preconditioner` adds moments up). By default they are those of `catalog`.

    Raises:
        UsageError: the method needs learning rates that are not given, or the model itself.
    """
    if method.needs_model:
        raise UsageError(
            f"{method.name} compares no vectors: a model forgets each query; see `lumina scores {method.name}`"
        )
    used = _checkpoints(method, catalog)
    C, N, D = len(used), *catalog.vectors_CnD.shape[1:]
    centre_CD, spread_CD = np.zeros((C, D)), np.ones((C, D))
    stored: list[np.ndarray] = []
    for i, checkpoint in enumerate(used):
        raw_ND = catalog.raw(checkpoint)
        if method.normalisation == "standard":
            centre_CD[i], spread_CD[i] = raw_ND.mean(axis=0), raw_ND.std(axis=0)
            spread_CD[i][spread_CD[i] == 0] = np.inf
        if method.damping is not None:
            moment = None if moments is None else moments[i]
            stored.append(_preconditioned(method, raw_ND, catalog.blocks, moment))
        else:
            stored.append(_normalised(method, raw_ND, centre_CD[i], spread_CD[i]))
        if method.kernel is not None and method.kernel.top_k is None:
            stored[i] = ridge_precondition(stored[i], method.kernel.ridge)
    factors_N = np.ones(N)
    if method.residual and catalog.probabilities_Cn is not None:
        factors_N = (1 - catalog.probabilities_Cn[used]).mean(axis=0)
    return Cached(method, np.stack(stored), _weights(method, catalog, C), factors_N, centre_CD, spread_CD)


def attribute(cached: Cached, queries: Features) -> np.ndarray:
    """Score every song of the catalog for each query: float64 `[Q, N]`, where more means more influence.

    Scores can be compared within one query, and not between queries, channels or methods.

    Args:
        cached: the catalog, prepared by `cache`.
        queries: features of the queries, under the catalog's checkpoints.

    Raises:
        UsageError: the queries have other checkpoints or dimensions than the catalog.
    """
    method, (C, N, D) = cached.method, cached.vectors_CND.shape
    used = _checkpoints(method, queries)
    Q, queries_D = queries.vectors_CnD.shape[1:]
    if (len(used), queries_D) != (C, D):
        raise UsageError(
            f"{method.name}: the catalog has {C} checkpoints of {D} numbers, the queries {len(used)} of {queries_D}"
        )
    if method.kind is None:
        return np.random.default_rng(0).standard_normal((Q, N))
    scores_QN = np.zeros((Q, N))
    for i, checkpoint in enumerate(used):
        queries_QD = _normalised(method, queries.raw(checkpoint), cached.centre_CD[i], cached.spread_CD[i])
        scores_QN += cached.weights_C[i] * _scores(method, cached.vectors_CND[i], queries_QD)
    return scores_QN * cached.factors_N


def _checkpoints(method: Method, features: Features) -> list[int]:
    C = len(features.vectors_CnD)
    return [C - 1] if method.checkpoints == "last" else list(range(C))


def _weights(method: Method, catalog: Features, C: int) -> np.ndarray:
    if method.checkpoints != "learning_rate":
        return np.full(C, 1 / C)
    if catalog.learning_rates_C is None:
        raise UsageError(
            f"{method.name} weighs checkpoints by training's learning rates there: give one for each, in their order "
            "(--learning-rate; in Python, `learning_rates_C`)"
        )
    return np.asarray(catalog.learning_rates_C, np.float64)


def _preconditioned(method: Method, raw_ND: np.ndarray, blocks: int, moment: np.ndarray | None) -> np.ndarray:
    assert method.damping is not None
    if moment is None:
        preconditioned_ND = precondition_by_own_moment(raw_ND, blocks, method.damping)
    else:
        preconditioned_ND = precondition(raw_ND, moment, method.damping)
    if method.normalisation == "none":
        return preconditioned_ND
    # This is a song's length in the preconditioner's metric. The query's length is left out: it is one factor on all
    # songs' scores.
    length_N = np.sqrt(np.einsum("nd,nd->n", raw_ND, preconditioned_ND))
    return preconditioned_ND / np.where(length_N > 0, length_N, 1)[:, None]


def _normalised(method: Method, raw_nD: np.ndarray, centre_D: np.ndarray, spread_D: np.ndarray) -> np.ndarray:
    vectors_nD = (raw_nD - centre_D) / spread_D
    if method.normalisation == "none":
        return vectors_nD
    length_n = np.linalg.norm(vectors_nD, axis=1)
    return vectors_nD / np.where(length_n > 0, length_n, 1)[:, None]


def _scores(method: Method, vectors_ND: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    similarity_QN = queries_QD @ vectors_ND.T
    if method.kernel is None or method.kernel.top_k is None:
        return similarity_QN
    scores_QN = np.zeros_like(similarity_QN)
    for query_D, similarity_N, scores_N in zip(queries_QD, similarity_QN, scores_QN, strict=True):
        nearest = np.argsort(-similarity_N, kind="stable")[: method.kernel.top_k]
        scores_N[nearest] = kernel_scores(vectors_ND[nearest], query_D, method.kernel.ridge)
    return scores_QN
