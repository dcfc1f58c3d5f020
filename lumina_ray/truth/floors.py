"""Floors: what a method must beat to have shown anything, each with the difference in the same bootstrap draws.

A floor takes the audited model out: the same method with weights that never heard the catalog, or hardly any model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.methods import METHODS, Method
from lumina_ray.truth.agreement import Agreement, with_losses
from lumina_ray.truth.bank import BASE, Bank
from lumina_ray.truth.evaluation_set import EvaluationSet, evaluation_set
from lumina_ray.truth.fingerprints import BIGRAM, UNTRAINED, AllFingerprints, FingerprintKey
from lumina_ray.truth.measures import Estimate, Resampled
from lumina_ray.truth.queries import Split
from lumina_ray.truth.scores import ScoredChannel, scores
from lumina_ray.vocabulary import Kind

_METHODS = ("tokens", "random")
# Other fingerprints need more of a model than hidden states.
_BY_BIGRAM = "influence"
FLOORS = {
    UNTRAINED: "the same method with random weights of the audited model's size",
    "reference": "the same method with a model that never heard the catalog; where there are several, by number",
    BASE: "the same method with the model that all models of the bank start from",
    BIGRAM: "`influence` with hidden states that are decayed sums of random embeddings of the previous codes",
    "tokens": "code histograms",
    "random": "random scores",
}
"""All floors by name."""


def floor_set(bank: Bank, split: Split) -> EvaluationSet:
    """Everything that floors are asked about: the catalog's songs, and the queries that have losses."""
    asked = evaluation_set(bank, "A", split)
    kept = with_losses(bank, asked)
    return replace(
        asked,
        songs=asked.songs[: asked.n_catalog],
        queries=tuple(asked.queries[q] for q in kept),
        controls=(),
    )


def required_floors(bank: Bank, names: Sequence[str]) -> list[FingerprintKey]:
    """List the fingerprints of `floor_set` that the floors of some methods take."""
    required: dict[FingerprintKey, None] = {("A", "A", "tokens"): None, ("A", BIGRAM, _BY_BIGRAM): None}
    for kind in (METHODS[name].kind for name in names):
        if kind is not None and find_kind(kind).runs_language_model:
            required |= {("A", weights, kind): None for weights in _weights(bank, kind)}
    return list(required)


class Floors:
    """Judges what floors score by retraining, each once.

    Attributes:
        agreement: what judges them.
    """

    def __init__(self, bank: Bank, asked: EvaluationSet, made: AllFingerprints) -> None:
        """Take fingerprints of `floor_set` that were made before; those that `required_floors` lists."""
        self._bank, self._asked, self._made = bank, asked, made
        self.agreement = Agreement(bank, asked)
        self._judged: dict[tuple[str, ScoredChannel, str | None], dict[str, Resampled]] = {}

    def ahead(
        self, method: Method, channel: ScoredChannel, measures: dict[str, Resampled]
    ) -> dict[str, dict[str, Estimate]]:
        """How far a method is ahead of each of its floors, by measure and floor.

        Args:
            measures: of the method in the channel, from an `Agreement` on the same bank and split.
        """
        out: dict[str, dict[str, Estimate]] = {}
        for floor, judged in self._of(method, channel):
            for name in measures.keys() & judged.keys():
                out.setdefault(name, {})[floor] = (measures[name] - judged[name]).estimate
        return {name: out[name] for name in measures if name in out}

    def _of(self, method: Method, channel: ScoredChannel) -> Iterator[tuple[str, dict[str, Resampled]]]:
        if method.kind is not None and find_kind(method.kind).runs_language_model:
            for weights in _weights(self._bank, method.kind):
                yield weights, self._judge(method, channel, weights)
        yield BIGRAM, self._judge(METHODS[_BY_BIGRAM], channel, BIGRAM)
        for name in _METHODS:
            if name != method.name:
                yield name, self._judge(METHODS[name], channel)

    def _judge(self, method: Method, channel: ScoredChannel, weights: str | None = None) -> dict[str, Resampled]:
        key = (method.name, channel, weights)
        if key not in self._judged:
            n_songs, stand_in = self._asked.n_catalog, (weights,) if weights else None
            scored = scores(self._bank, method, channel, self._asked, n_songs, self._made, weights=stand_in)
            self._judged[key] = self.agreement(channel, scored)
        return self._judged[key]


def _weights(bank: Bank, kind: Kind) -> list[str]:
    references = [name for name in bank.models if name.startswith("reference") and not name.endswith("-early")]
    return [UNTRAINED, *references, BASE]
