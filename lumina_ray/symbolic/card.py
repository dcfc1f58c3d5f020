"""The card of a symbolic bank: what methods of attribution on notes are worth against retraining, and diagnostics.

Shape legend: N = pieces, Q = queries.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lumina_ray.diagnostics.diagnosis import AspectRow, Diagnosis, Settings, diagnose
from lumina_ray.diagnostics.feature_tables import FeatureTable
from lumina_ray.diagnostics.features import VectorFeature
from lumina_ray.diagnostics.reliability import Diagnostics
from lumina_ray.diagnostics.score_tables import ScoreMatrix
from lumina_ray.methods import METHODS, attribute, cache
from lumina_ray.symbolic.bank import SymbolicBank, unit_features
from lumina_ray.truth.agreement import deranged
from lumina_ray.truth.measures import Draws, Estimate, Resampled, draw_again, effective_queries, lds_in_draws

GROUP = 10
"""Pieces of a group whose homogeneity is measured."""
RUNS = {
    # Name of the row: the method, and the gradients that it takes.
    "trak-ensemble": ("trak", "ensemble"),
    "trak": ("trak", "whole"),
    "tracin": ("tracin", "whole"),
    "grad-cos": ("grad-cos", "whole"),
    "grad-dot": ("grad-dot", "whole"),
}
FLOORS = ("untrained", "pitch-classes", "random")
"""The same method on random weights; likeness of the notes' pitch classes, without a model; random scores."""


@dataclass(frozen=True)
class CardRow:
    """One method for one kind of query.

    Attributes:
        name: of the method, a key of `RUNS`, or of a floor.
        kind: of the queries.
        lds: linear datamodeling score with its 95 % interval.
        other: the same of the scores for another query of the kind, in place of the query's own: a placebo.
        ahead: how far it is ahead of each floor, in the same draws; of methods alone.
        found: reliability of its matrix of scores.
        collapse: κ̄ on a scale on which chance is 0.
        homogeneity: of the `GROUP` pieces with the highest scores, by musical aspect.
    """

    name: str
    kind: str
    lds: Estimate
    other: Estimate
    ahead: dict[str, Estimate]
    found: Diagnostics
    collapse: float
    homogeneity: tuple[AspectRow, ...]


@dataclass(frozen=True)
class SymbolicCard:
    """All rows, and what is known of the bank.

    Attributes:
        facts: sizes, and mean losses in nats an event by kind of query.
        chance: reliability of random scores of this size, by kind of query.
    """

    facts: dict[str, Any]
    chance: dict[str, Diagnostics]
    rows: tuple[CardRow, ...]


def make_card(bank: SymbolicBank) -> SymbolicCard:
    """Judge all methods and floors on a bank; it takes seconds, and is the same each time."""
    rows: list[CardRow] = []
    chance: dict[str, Diagnostics] = {}
    facts: dict[str, Any] = {"pieces": len(bank.names), "models": len(bank.masks_RN), "recipe": asdict(bank.recipe)}
    table = feature_table(bank)
    for kind in sorted(set(bank.kinds)):
        places = bank.places(kind)
        facts[kind] = _facts(bank, places)
        of_pieces = bank.of_Q[places].tolist()
        draws, others = draw_again(len(bank.masks_RN), of_pieces), deranged(of_pieces)
        scored = dict(_scored(bank, places))
        judged = {name: _lds(bank, places, scores_QN, draws) for name, scores_QN in scored.items()}
        for name, scores_QN in scored.items():
            found = _diagnosed(bank, places, scores_QN, table)
            chance[kind] = found.reliability.chance
            rows.append(
                CardRow(
                    name,
                    kind,
                    judged[name].estimate,
                    _lds(bank, places, scores_QN[others], draws).estimate,
                    _ahead(name, judged) if name in RUNS else {},
                    found.reliability.found,
                    found.reliability.collapse,
                    tuple(row for row in found.homogeneity if not row.residual),
                )
            )
    return SymbolicCard(facts, chance, tuple(rows))


def feature_table(bank: SymbolicBank) -> FeatureTable:
    """Give the pieces' features as diagnostics take them, without dimensions that are the same for all."""
    features = []
    for name, values_Nd in bank.features.items():
        varies_d = np.ptp(values_Nd, axis=0) > 0
        if varies_d.any():
            aspect, _, feature = name.partition(".")
            features.append(VectorFeature(aspect, feature, values_Nd[:, varies_d]))
    return FeatureTable(tuple(features), ())


def _scored(bank: SymbolicBank, places: list[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Scores of all pieces for some queries, float64 `[Q, N]`, by method and floor."""
    for name, (method, gradients) in RUNS.items():
        pieces, queries = bank.both(gradients, places)
        yield name, attribute(cache(METHODS[method], pieces), queries)
    for method in dict.fromkeys(method for method, _ in RUNS.values()):
        pieces, queries = bank.both("untrained", places)
        yield f"{method}, untrained", attribute(cache(METHODS[method], pieces), queries)
    # As histograms of codes are compared, where music is audio.
    classes = cache(METHODS["tokens"], unit_features(bank.classes_N[None]))
    yield "pitch-classes", attribute(classes, unit_features(bank.classes_Q[None, places]))
    pieces, queries = bank.both("whole", places)
    yield "random", attribute(cache(METHODS["random"], pieces), queries)


def _diagnosed(bank: SymbolicBank, places: list[int], scores_QN: np.ndarray, table: FeatureTable) -> Diagnosis:
    # A piece has one score a query: however these are scaled, the order of pieces is kept.
    matrix = ScoreMatrix("", tuple(map(str, places)), bank.names, np.arange(len(bank.names)), scores_QN.T, "")
    return diagnose(matrix, table, settings=Settings(sizes=(min(GROUP, len(bank.names) - 1),)))


def _ahead(name: str, judged: dict[str, Resampled]) -> dict[str, Estimate]:
    floors = {floor: floor if floor in judged else f"{RUNS[name][0]}, {floor}" for floor in FLOORS}
    return {floor: (judged[name] - judged[of]).estimate for floor, of in floors.items()}


def _lds(bank: SymbolicBank, places: list[int], scores_QN: np.ndarray, draws: Draws) -> Resampled:
    return lds_in_draws(scores_QN, bank.masks_RN, bank.losses_RQ[:, places], draws)


def _facts(bank: SymbolicBank, places: list[int]) -> dict[str, Any]:
    heard_RQ = bank.masks_RN[:, bank.of_Q[places]]
    losses_RQ = bank.losses_RQ[:, places]
    return {
        "queries": len(places),
        "effective queries": effective_queries(losses_RQ),
        "loss of random weights": float(bank.untrained_Q[places].mean()),
        "loss of the whole model": float(bank.whole_Q[places].mean()),
        "loss of halves with the piece": float(losses_RQ[heard_RQ].mean()),
        "loss of halves without the piece": float(losses_RQ[~heard_RQ].mean()),
    }
