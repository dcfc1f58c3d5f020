"""Measures of each method of attribution: agreement with retraining, twins, cells, altered copies.

Shape legend: N songs, Q queries.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lumina_ray.methods import METHODS, Method
from lumina_ray.truth.agreement import AGREEMENT, Agreement
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import Audited
from lumina_ray.truth.evaluation_set import AGAINST_REFERENCE, EvaluationSet, twin_places
from lumina_ray.truth.fingerprints import AllFingerprints, checkpoints
from lumina_ray.truth.floors import Floors
from lumina_ray.truth.measures import Estimate, mean, precedence
from lumina_ray.truth.scores import BOTH, ScoredChannel, scores
from lumina_ray.vocabulary import CHANNELS

RELATIVE = " − reference"
"""Ends the name of a row from which the reference model's scores are taken off."""

MEASURES = AGREEMENT | {
    "twins_prompted": "how often the recording that was trained on is preferred to its twin, by how the model goes on "
    "from either; 0.5 is a coin",
    "twins_generated": "the same, by music that the model made up from nothing",
    "same_score": "how often, for an unheard recording, a song with the same score and other instruments is ahead of "
    "one that shares neither",
    "same_instruments": "the same for a song with the same instruments and another score",
}
"""All measures by name, in the order of the table; a row has those that its bank and split allow."""


@dataclass(frozen=True)
class MethodRow:
    """One method in one channel, or in both together.

    Attributes:
        measures: by name; see `MEASURES`.
        found: by alteration: how often a song is the first of its whole catalog for an altered copy of it.
        numbers: how many are kept of a song.
        seconds_per_song: processor time to make them, for a song of 15 s; for unlearning, for each query anew.
        ahead: by measure of agreement and floor: how far ahead of the floor (`lumina_ray.truth.floors`), with the
            interval of a paired bootstrap.
    """

    method: str
    channel: ScoredChannel
    measures: dict[str, Estimate]
    found: dict[str, Estimate]
    numbers: int
    seconds_per_song: float
    ahead: dict[str, dict[str, Estimate]] = field(default_factory=dict)


def method_rows(
    bank: Bank,
    names: Sequence[str],
    asked: Mapping[Audited, EvaluationSet],
    made: AllFingerprints,
    floors: Floors | None = None,
) -> Iterator[MethodRow]:
    """Measure some methods, each in each of its channels, and in both together.

    Args:
        asked: by audited model.
        made: what `required_fingerprints` lists.
        floors: to compare with, of the same split; none by default.
    """
    agreement = Agreement(bank, asked["A"])
    for name in names:
        method = METHODS[name]
        for channel in (*method.channels, *([BOTH] if len(method.channels) > 1 else [])):
            for relative in (False, True) if name in AGAINST_REFERENCE else (False,):
                yield _row(bank, method, channel, asked, made, agreement, floors, relative=relative)


def _row(
    bank: Bank,
    method: Method,
    channel: ScoredChannel,
    asked: Mapping[Audited, EvaluationSet],
    made: AllFingerprints,
    agreement: Agreement,
    floors: Floors | None,
    *,
    relative: bool,
) -> MethodRow:
    A = asked["A"]
    of_catalog = scores(bank, method, channel, A, A.n_catalog, made, relative=relative)
    of_all = {
        one.model: scores(bank, method, channel, one, len(one.songs), made, relative=relative) for one in asked.values()
    }
    agreed = agreement(channel, of_catalog)
    measures = {name: of.estimate for name, of in agreed.items()}
    measures |= _twins(bank, asked, of_all) | _cells(bank, A, of_catalog)
    ahead = floors.ahead(method, channel, agreed) if floors else {}
    size, seconds = 0, 0.0
    if method.source is not None:
        used = [made["A", name, method.source] for name in (*checkpoints(method, "A"), *(("reference",) * relative))]
        of_channels = CHANNELS if channel == BOTH else (channel,)
        size = 0 if method.needs_model else sum(one.vectors[c].shape[1] for one in used for c in of_channels)
        seconds = sum(one.seconds_per_song for one in used)
    name = method.name + RELATIVE * relative
    return MethodRow(name, channel, measures, _found(A, of_catalog), size, seconds, ahead)


def _twins(
    bank: Bank, asked: Mapping[Audited, EvaluationSet], scores_QN: Mapping[Audited, np.ndarray]
) -> dict[str, Estimate]:
    """Ask both audited models: each work has one recording that A knows, and one that B knows."""
    out = {}
    for kind in ("prompted", "generated"):
        preferred: dict[str, list[float]] = {}
        for model, of in asked.items():
            for work, trained, unheard in twin_places(bank, of):
                asking = [
                    q
                    for q in of.of_kind(kind)
                    if of.queries[q].recording < 0 or bank.recordings[of.queries[q].recording].work == work
                ]
                if asking:
                    ahead = scores_QN[model][asking, trained] - scores_QN[model][asking, unheard]
                    preferred.setdefault(work, []).append(precedence(ahead, np.zeros(1)))
        if preferred:
            out[f"twins_{kind}"] = mean(np.array([np.mean(wins) for wins in preferred.values()]))
    return out


def _cells(bank: Bank, A: EvaluationSet, scores_QN: np.ndarray) -> dict[str, Estimate]:
    cells = [place for place in range(A.n_catalog) if bank.recordings[A.songs[place]].role == "cell"]
    ahead: dict[str, list[float]] = {"same_score": [], "same_instruments": []}
    for q in A.of_kind("unheard"):
        own = bank.recordings[A.queries[q].recording]
        if own.role != "cell":
            continue
        others = [(place, bank.recordings[A.songs[place]]) for place in cells]
        same_score = [p for p, other in others if other.work == own.work]
        same_sound = [p for p, other in others if other.variant == own.variant]
        neither = [p for p, other in others if other.work != own.work and other.variant != own.variant]
        ahead["same_score"].append(precedence(scores_QN[q, same_score], scores_QN[q, neither]))
        ahead["same_instruments"].append(precedence(scores_QN[q, same_sound], scores_QN[q, neither]))
    return {name: mean(np.array(values)) for name, values in ahead.items() if values}


def _found(A: EvaluationSet, scores_QN: np.ndarray) -> dict[str, Estimate]:
    first_Q = np.array(A.songs)[scores_QN.argmax(axis=1)]
    of: dict[str, list[float]] = {}
    for query, first in zip(A.queries, first_Q, strict=True):
        if query.kind == "altered":
            of.setdefault(query.alteration, []).append(float(query.recording == first))
    return {alteration: mean(np.array(values)) for alteration, values in of.items()}
