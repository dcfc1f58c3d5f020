"""What methods and evidence follow on the factorial set, score or sound: the rows of its table."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lumina_ray.errors import UsageError
from lumina_ray.files import atomic_path
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.methods import METHODS, Features, Method, attribute, cache
from lumina_ray.truth.factorial import MEASURES, measure, similarities
from lumina_ray.truth.factorial_music import VARIANTS, Part, Variant
from lumina_ray.truth.factorial_set import FactorialSet
from lumina_ray.truth.measures import Estimate
from lumina_ray.vocabulary import EVIDENCE, Channel

if TYPE_CHECKING:
    from lumina_ray.model import MusicModel

DEFAULT_METHODS = ("companion", "influence", "stats", "jl", "tokens", "random")


@dataclass(frozen=True)
class FactorialRow:
    """What one method's scores, or one kind of evidence, follow.

    Attributes:
        name: of the method, or of the evidence.
        channel: of the method; "" for evidence.
        measures: by variant of the query, then by the names of `lumina_ray.truth.factorial.MEASURES`.
    """

    name: str
    channel: Channel | Literal[""]
    measures: dict[Variant, dict[str, Estimate]]


def check_methods(names: Sequence[str]) -> None:
    """Check that methods can stand in the table.

    Raises:
        UsageError: there is no method of a name; or it regresses a query on all clips, of which the query is one.
    """
    for name in names:
        if name not in METHODS:
            raise UsageError(f"no method {name!r}; there are {', '.join(METHODS)}")
        if METHODS[name].kernel is not None:
            raise UsageError(
                f"{name} regresses a query on all clips at once, and the query is one of them: choose another method, "
                f"such as {METHODS[name].kind}"
            )


def evidence_rows(of: FactorialSet) -> Iterator[FactorialRow]:
    """Measure evidence, from the clips' own audio and from audio decoded from their codes."""
    for ending, vectors in (("", of.evidence), (", decoded", of.decoded)):
        for name in EVIDENCE:
            yield _row(of, name + ending, "", similarities(vectors[name], vectors[name]))


def method_rows(of: FactorialSet, model: "MusicModel", names: Sequence[str]) -> Iterator[FactorialRow]:
    """Measure methods of attribution, each in each of its channels, on a model's fingerprints of the clips.

    Raises:
        UsageError: see `check_methods`.
    """
    check_methods(names)
    made: dict[tuple[str, Channel], Features] = {}
    for name in names:
        method = METHODS[name]
        for channel in method.channels:
            if method.kind is not None and (method.kind, channel) not in made:
                made |= {(method.kind, c): features for c, features in _features(of, model, method.kind).items()}
            yield _row(of, name, channel, _scores(of, method, made.get((method.kind or "", channel))))


def save_rows(part: Part, rows: Sequence[FactorialRow], path: Path) -> None:
    """Write the table as JSON."""
    values = as_dict(part, rows)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def as_dict(part: Part, rows: Sequence[FactorialRow]) -> dict:
    """Give the table as JSON has it."""
    return {"split": part, "measures": MEASURES, "queries": VARIANTS, "rows": [asdict(row) for row in rows]}


def _row(of: FactorialSet, name: str, channel: Channel | Literal[""], scores_nn: np.ndarray) -> FactorialRow:
    labels, found = of.labels, of.of_variant("grid")
    measures: dict[Variant, dict[str, Estimate]] = {}
    for variant in VARIANTS:
        asking = of.of_variant(variant)
        measures[variant] = measure(scores_nn[np.ix_(asking, found)], labels.take(asking), labels.take(found))
    return FactorialRow(name, channel, measures)


def _features(of: FactorialSet, model: "MusicModel", kind: str) -> dict[Channel, Features]:
    specification = Specification.for_model(model, kind)
    made = list(Fingerprinter(model, specification).many(of.songs))
    return {
        c: Features(
            np.stack([one.vectors[c] for one in made])[None],
            np.array([[one.norms[c] for one in made]]),
            specification.blocks(c),
        )
        for c in specification.channels
    }


def _scores(of: FactorialSet, method: Method, features: Features | None) -> np.ndarray:
    n = len(of.clips)
    if features is None:
        # The method looks at nothing.
        features = Features(np.zeros((1, n, 1), np.float32), np.ones((1, n)))
    return attribute(cache(method, features), features)
