"""The card of dattri's published benchmark: its methods by its recipe, judged by its target values.

Shape legend: R = retrained models, C = models whose gradients are taken, N = segments, Q = queries, q = some of them,
S = parameters, D = numbers of a projected gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from lumina_ray.diagnostics.reliability import Diagnostics, judge, sum_parts
from lumina_ray.errors import NumericsError
from lumina_ray.methods import METHODS, attribute, cache
from lumina_ray.symbolic.bank import unit_features
from lumina_ray.symbolic.dattri import DattriBenchmark, Segments
from lumina_ray.symbolic.dattri_model import read_model
from lumina_ray.symbolic.gradients import Passage, Predictor, count_parameters, gradients, projected
from lumina_ray.truth.agreement import deranged
from lumina_ray.truth.measures import Estimate, draw_again, lds_in_draws

PUBLISHED = {"trak-ensemble": 0.318, "tracin": 0.149, "grad-cos": 0.112, "grad-dot": 0.089}
"""LDS of Aria's Table 1, whose TRAK is an ensemble of ten."""
HELD_BYTES = 10 << 30
"""Gradients of queries that are held at once: all 178 of the benchmark, which are 9.5 GB."""
_TOGETHER = 8
"""Gradients of segments that the queries' are multiplied by at once."""
_NONZEROS, _SEED = 1, 422024
# The recipe has no damping, and N > D; what is left lets Cholesky's decomposition pass where N < D.
TRAK = replace(METHODS["trak"], damping=1e-9)


@dataclass(frozen=True)
class DattriRow:
    """One method.

    Attributes:
        name: of the method, a key of `PUBLISHED`.
        lds: linear datamodeling score with its 95 % interval, over the queries that have a number.
        other: the same of the scores for another query, in place of the query's own: a placebo.
        left_out: queries without a number: their target values, or what scores predict, are constant or no numbers.
        published: the paper's LDS.
        found: reliability of its matrix of scores.
        collapse: κ̄ on a scale on which chance is 0.
    """

    name: str
    lds: Estimate
    other: Estimate
    left_out: int
    published: float
    found: Diagnostics
    collapse: float


@dataclass(frozen=True)
class DattriCard:
    """All rows, and what is known of the benchmark.

    Attributes:
        facts: sizes, and how target values correlate with losses of the models of halves.
        chance: reliability of random scores of this size.
    """

    facts: dict[str, Any]
    chance: Diagnostics
    rows: tuple[DattriRow, ...]


@dataclass(frozen=True)
class Products:
    """Inner products of two sets of gradients, `dot_QN`, and their lengths, `queries_Q` and `segments_N`; float64."""

    dot_QN: np.ndarray
    queries_Q: np.ndarray
    segments_N: np.ndarray


def make_dattri_card(
    benchmark: DattriBenchmark, device: str = "cpu", say: Callable[[str], None] = lambda _: None
) -> DattriCard:
    """Compute all scores and judge them: one gradient of each segment and query under each model.

    Args:
        device: where models compute, as torch names it.
        say: is told of each model before it.

    Raises:
        StoreError: the weights of a model cannot be read.
        NumericsError: no query has a number.
    """
    trak_QN, losses_CQ = trak_scores(benchmark, device, say)
    scored = {"trak-ensemble": trak_QN, **inner_product_scores(benchmark, device, say)}
    others = deranged(list(benchmark.queries.files))
    rows = []
    for name, published in PUBLISHED.items():
        reliability = judge(sum_parts([scored[name].T]))
        lds, left_out = agreement(name, benchmark, scored[name])
        other, _ = agreement(name, benchmark, scored[name][others])
        rows.append(DattriRow(name, lds, other, left_out, published, reliability.found, reliability.collapse))
    facts = {
        "recipe": asdict(benchmark.recipe),
        "segments": len(benchmark.segments.files),
        "queries": len(benchmark.queries.files),
        "models": len(benchmark.masks_RN),
        "segments that dattri begins anywhere": benchmark.segments.drawn,
        "queries that dattri begins anywhere": benchmark.queries.drawn,
        "correlation of target values with losses of halves": _correlation(benchmark.targets_RQ, losses_CQ),
    }
    return DattriCard(facts, reliability.chance, tuple(rows))


def agreement(name: str, benchmark: DattriBenchmark, scores_QN: np.ndarray) -> tuple[Estimate, int]:
    """Mean linear datamodeling score over the queries that have a number, and how many have none.

    Queries of one file are drawn together.

    Raises:
        NumericsError: no query has a number.
    """
    predicted_RQ = benchmark.masks_RN.astype(np.float64) @ scores_QN.T
    kept = np.flatnonzero(_varies(predicted_RQ) & _varies(benchmark.targets_RQ))
    if not len(kept):
        raise NumericsError(
            f"{name}: no query has a linear datamodeling score: its scores or the target values are constant or no "
            "numbers; look at target_values_lds.pt and at the models' weights"
        )
    draws = draw_again(len(predicted_RQ), [benchmark.queries.files[q] for q in kept])
    # Target values rise where losses fall.
    judged = lds_in_draws(scores_QN[kept], benchmark.masks_RN, -benchmark.targets_RQ[:, kept], draws)
    return judged.estimate, len(scores_QN) - len(kept)


def trak_scores(
    benchmark: DattriBenchmark, device: str = "cpu", say: Callable[[str], None] = lambda _: None
) -> tuple[np.ndarray, np.ndarray]:
    """TRAK of the models of halves, float64 `[Q, N]`, and the queries' losses under each, float64 `[C, Q]`.

    Gradients are those of the log-odds `log p − log(1 − p)` of a segment's last event: of its loss, over `1 − p`.
    """
    N = len(benchmark.segments.files)
    passages = [*_passages(benchmark.segments, device), *_passages(benchmark.queries, device)]
    rows, losses = [], []
    for number, path in enumerate(benchmark.half):
        say(f"TRAK: model {number + 1} of {len(benchmark.half)}")
        model = read_model(path).to(device)
        found_n, rows_nD = projected(model, passages, benchmark.recipe.dims, _NONZEROS, _SEED + number)
        rest_n1 = -np.expm1(-found_n)[:, None]
        losses.append(found_n)
        rows.append(np.divide(rows_nD, rest_n1, out=np.zeros_like(rows_nD), where=rest_n1 > 0))
    losses_Cn, rows_CnD = np.stack(losses), np.stack(rows)
    segments = unit_features(rows_CnD[:, :N], probabilities_Cn=np.exp(-losses_Cn[:, :N]))
    return attribute(cache(TRAK, segments), unit_features(rows_CnD[:, N:])), losses_Cn[:, N:]


def inner_product_scores(
    benchmark: DattriBenchmark, device: str = "cpu", say: Callable[[str], None] = lambda _: None
) -> dict[str, np.ndarray]:
    """TracIn of the full models, and Grad-Dot and Grad-Cos of the first, without a projection: float64 `[Q, N]` each.

    Gradients are too many to hold. The products are what the methods of these names compute from held ones.
    """
    segments, queries = (_passages(of, device) for of in (benchmark.segments, benchmark.queries))
    of_models = []
    for number, path in enumerate(benchmark.full):
        say(f"TracIn: model {number + 1} of {len(benchmark.full)}")
        of_models.append(products(read_model(path).to(device), segments, queries))
    first = of_models[0]
    lengths_QN = first.queries_Q[:, None] * first.segments_N
    return {
        "tracin": benchmark.recipe.weight * np.sum([of.dot_QN for of in of_models], axis=0),
        "grad-dot": first.dot_QN,
        "grad-cos": first.dot_QN / np.where(lengths_QN > 0, lengths_QN, 1),
    }


def products(model: Predictor, segments: Sequence[Passage], queries: Sequence[Passage]) -> Products:
    """Inner products of all parameters' gradients; those of the queries are held as far as `HELD_BYTES` lets them."""
    held = max(1, HELD_BYTES // (4 * count_parameters(model)))
    out = Products(np.empty((len(queries), len(segments))), np.empty(len(queries)), np.empty(len(segments)))
    for start in range(0, len(queries), held):
        gradients_qS = _held(model, queries[start : start + held])
        out.queries_Q[start : start + held] = gradients_qS.norm(dim=1).cpu()
        for at in range(0, len(segments), _TOGETHER):
            some_nS = _held(model, segments[at : at + _TOGETHER])
            out.dot_QN[start : start + held, at : at + _TOGETHER] = (gradients_qS @ some_nS.T).cpu()
            out.segments_N[at : at + _TOGETHER] = some_nS.norm(dim=1).cpu()
    return out


def _held(model: Predictor, of: Sequence[Passage]) -> torch.Tensor:
    """Gradients, float32 `[n, S]`, in memory that is taken once."""
    out_nS = torch.empty(len(of), count_parameters(model), device=of[0].events_WT.device)
    for row_S, (_, gradient_S) in zip(out_nS, gradients(model, of), strict=True):
        row_S.copy_(gradient_S)
    return out_nS


def _passages(of: Segments, device: str) -> list[Passage]:
    """Segments whose last event alone counts."""
    return [Passage(events_T[None], first=-1) for events_T in torch.from_numpy(of.events_nT).to(device)]


def _varies(values_RQ: np.ndarray) -> np.ndarray:
    """Which columns have a rank correlation at all, bool `[Q]`."""
    return ~np.isnan(values_RQ).any(axis=0) & (values_RQ != values_RQ[0]).any(axis=0)


def _correlation(targets_RQ: np.ndarray, losses_CQ: np.ndarray) -> float:
    """Correlation over the first models and all queries with numbers: about −1 where model and half are the same.

    It is positive if target values are losses themselves, which would turn the sign of every LDS.
    """
    targets_RQ = targets_RQ[: len(losses_CQ)]
    losses_CQ = losses_CQ[: len(targets_RQ)]
    known = np.isfinite(targets_RQ)
    if not known.any() or not np.ptp(targets_RQ[known]) or not np.ptp(losses_CQ[known]):
        return 0.0
    return float(np.corrcoef(targets_RQ[known], losses_CQ[known])[0, 1])
