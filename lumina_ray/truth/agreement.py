"""Agreement of scores with retraining for every kind of query that has losses, beside placebos.

Shape legend: N songs, Q queries, R retrained models, K codebooks.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from lumina_ray.truth.bank import Bank
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.measures import (
    MIN_EFFECTIVE_QUERIES,
    Draws,
    Resampled,
    draw_again,
    effective_queries,
    lds_in_draws,
)
from lumina_ray.truth.queries import Query, QueryKind
from lumina_ray.truth.scores import BOTH, ScoredChannel
from lumina_ray.vocabulary import codebooks_of

POOLED: dict[str, tuple[QueryKind, ...]] = {
    "pieces": ("captioned", "guided"),
    "continuations": ("prompted", "continued"),
}
"""Kinds of queries that are judged together, as alone they are few."""
_KINDS: dict[str, str] = {
    "excerpt": "unheard excerpts of catalog songs",
    "generated": "music that the model made up under its fixed text",
    "captioned": "music that the model made up under captions",
    "guided": "music that the model made up under captions, with guidance",
    "prompted": "the model's continuations of catalog songs",
    "continued": "the model's continuations of catalog songs under their captions",
    "altered": "altered copies of catalog songs",
    "catalog": "catalog songs",
    "unheard": "recordings that the model does not know, of works that it may know",
    "outside": "music that reference models learned from",
    "foreign": "music that a reference model made up under captions",
    "control": "music that no model knows",
    "pieces": "music that the model made up under captions, with guidance or without",
    "continuations": "the model's continuations of catalog songs, under their captions or not",
}
_VARIANTS = {
    "": "linear datamodeling score, by the loss of all codebooks",
    "_own": "the same by the loss of the channel's own codebooks: the first (P), the others (M)",
    "_specific": "the LDS of what is a query's own: scores and losses less their means over the queries of the kind",
    "_other": "placebo: the LDS of the scores for another query of the kind, in place of the query's own",
}
_ALONE_VARIANTS = {
    "": "over models that each lack one song, rank correlation of that song's score with what it does to the loss",
    "_specific": "the same of what is a query's own",
    "_other": "placebo: the same with the scores for another query of the kind",
}
# What a single song does is small: kinds that are pooled have enough queries.
_ALONE = ("excerpt", *POOLED)
_HALF, _SINGLE = "half", "single"
AGREED: dict[str, str] = {f"lds_{kind}": kind for kind in _KINDS} | {
    f"alone_{kind}": f"{kind}, song by song" for kind in _ALONE
}
"""What each measure of agreement by the loss of all codebooks is of."""
AGREEMENT = {
    f"{name}_{kind}{variant}": f"agreement with retraining on {_KINDS[kind]}: {what}"
    for name, kinds, variants in (("lds", _KINDS, _VARIANTS), ("alone", _ALONE, _ALONE_VARIANTS))
    for kind in kinds
    for variant, what in variants.items()
} | {"creators": "agreement with retraining without each creator's songs, on unheard excerpts of catalog songs"}
"""All measures by name."""
# One text, or few, may make all pieces of a kind so alike that they are one query.
_MADE_UP = ("generated", "captioned", "guided", "pieces")


@dataclass(frozen=True)
class Diversity:
    """How much the queries of one kind differ in what retraining does to them.

    Attributes:
        queries: how many there are.
        effective: how many queries without anything in common would be worth as much (`effective_queries`).
        own: the same of what is a query's own, its loss less the mean loss of its kind.
        judged, own_judged: whether they are enough for an LDS; only kinds that a model made up can be too few.
    """

    queries: int
    effective: float
    own: float
    judged: bool
    own_judged: bool


@dataclass(frozen=True)
class _Questions:
    """Queries of one kind, or of several together, and what some retrained models think of them.

    Attributes:
        places: of the queries in the evaluation set.
        others: for each query, the position among these of another query, with another recording or caption.
        draws: of models and queries.
        kinds: positions among these of the queries of each kind.
    """

    places: list[int]
    masks_RN: np.ndarray
    losses_RQK: np.ndarray
    others: np.ndarray
    draws: Draws
    kinds: list[list[int]]

    def mean_losses(self, codebooks: list[int] | slice = slice(None)) -> np.ndarray:
        """Mean over some codebooks: float64 `[R, Q]`."""
        return self.losses_RQK[:, :, codebooks].mean(axis=2, dtype=np.float64)

    def lds(self, scores_QN: np.ndarray, losses_RQ: np.ndarray) -> Resampled:
        return lds_in_draws(scores_QN, self.masks_RN, losses_RQ, self.draws)

    def own(self, values_QX: np.ndarray) -> np.ndarray:
        """Take the mean over the queries of its kind off each query's values, such as its scores of all songs."""
        out = values_QX.astype(np.float64)
        for places in self.kinds:
            out[places] -= out[places].mean(axis=0)
        return out


class Agreement:
    """Judges scores of an evaluation set by retraining; all by the same draws of models and queries.

    Attributes:
        diversity: of the queries of each of `AGREED` that the bank has.
    """

    def __init__(self, bank: Bank, asked: EvaluationSet) -> None:
        self._questions: dict[str, _Questions] = {}
        self.diversity: dict[str, Diversity] = {}
        for name in AGREED:
            group, _, kind = name.partition("_")
            questions = _questions(bank, asked, kind, _HALF if group == "lds" else _SINGLE)
            if questions is None:
                continue
            losses_RQ = questions.mean_losses()
            effective, own = effective_queries(losses_RQ), effective_queries(questions.own(losses_RQ.T).T)
            judged, own_judged = (kind not in _MADE_UP or n >= MIN_EFFECTIVE_QUERIES for n in (effective, own))
            self.diversity[name] = Diversity(len(questions.places), effective, own, judged, own_judged)
            self._questions[name] = questions
        self._creators = _questions(bank, asked, "excerpt", "without-creator")

    def __call__(self, channel: ScoredChannel, scores_QN: np.ndarray) -> dict[str, Resampled]:
        """Judge scores of the catalog's songs for the set's queries, by all of the measures that the bank allows."""
        out = {}
        for name, questions in self._questions.items():
            of_kind_QN, losses_RQ = scores_QN[questions.places], questions.mean_losses()
            diversity = self.diversity[name]
            if diversity.judged:
                out[name] = questions.lds(of_kind_QN, losses_RQ)
                if channel != BOTH and f"{name}_own" in AGREEMENT:
                    codebooks = codebooks_of(channel, questions.losses_RQK.shape[2])
                    out[f"{name}_own"] = questions.lds(of_kind_QN, questions.mean_losses(codebooks))
            if diversity.own_judged:
                out[f"{name}_specific"] = questions.lds(questions.own(of_kind_QN), questions.own(losses_RQ.T).T)
            if diversity.judged:
                out[f"{name}_other"] = questions.lds(of_kind_QN[questions.others], losses_RQ)
        if self._creators is not None:
            out["creators"] = self._creators.lds(scores_QN[self._creators.places], self._creators.mean_losses())
        return out

    def refusals(self) -> list[str]:
        """Say which kinds of queries are too few to be judged."""
        return [
            f"Not measured: agreement on {_KINDS[name.partition('_')[2]]} (`{name}`): the {of.queries} pieces are "
            f"worth {of.effective:.1f} queries, what is their own {of.own:.1f}, and {MIN_EFFECTIVE_QUERIES} are the "
            "least"
            + (": the latter alone is judged." if of.own_judged else ": the former alone is." if of.judged else ".")
            for name, of in self.diversity.items()
            if not (of.judged and of.own_judged)
        ]


def with_losses(bank: Bank, asked: EvaluationSet) -> list[int]:
    """Positions, in an evaluation set, of the queries that all retrained models were asked about."""
    known = set(map(id, bank.queries))
    return [q for q, query in enumerate(asked.queries) if id(query) in known]


def _questions(bank: Bank, asked: EvaluationSet, kind: str, trainings: str) -> _Questions | None:
    kinds = POOLED.get(kind, (kind,))
    places = [q for q in with_losses(bank, asked) if asked.queries[q].kind in kinds]
    rows = bank.of_kind(trainings)
    if not places or not rows:
        return None
    clusters = [cluster(asked.queries[q], q) for q in places]
    return _Questions(
        places=places,
        masks_RN=bank.masks(rows, list(asked.songs[: asked.n_catalog])),
        losses_RQK=bank.losses_RQK[np.ix_(rows, bank.columns([asked.queries[q] for q in places]))],
        others=deranged(clusters),
        draws=draw_again(len(rows), clusters),
        kinds=[of for one in kinds if (of := [i for i, q in enumerate(places) if asked.queries[q].kind == one])],
    )


def cluster(query: Query, place: int) -> Hashable:
    """Name the cluster of queries that are not independent of each other: a caption, or else a recording."""
    return query.caption or (query.recording if query.recording >= 0 else f"alone {place}")


def deranged(clusters: list[Hashable]) -> np.ndarray:
    """Give every query another one, int `[Q]`: of another cluster where no cluster has more than half of the queries.

    With the queries in the order of their clusters, it is the one that is half of all places further on.
    """
    numbers: dict[Hashable, int] = {}
    order = np.argsort([numbers.setdefault(name, len(numbers)) for name in clusters], kind="stable")
    out = np.empty(len(order), np.int64)
    out[order] = np.roll(order, -(len(order) // 2))
    return out
