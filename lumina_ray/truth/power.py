"""Power of policies: how often they name the song that a query was made of; and how often they name any.

False alarms alone would be least for a rule that never names anything. All controls calibrate here, as they do for
users; what is judged is no control.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from lumina_ray.attribution.evidence import evidence_on_all
from lumina_ray.attribution.policies import POLICIES
from lumina_ray.calibration import calibrate
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.queries import Query
from lumina_ray.vocabulary import Channel


@dataclass(frozen=True)
class Power:
    """The answers of one policy to queries of one kind, in any channel.

    Attributes:
        queries: their kind; of altered copies with the name of the alteration.
        n_queries: how many there are.
        own_song: fraction for which the song that they were made of is named; None where they were made of none.
        any_song: fraction for which any song of the catalog is named. Of outside music, and of pieces by models that
            never heard the catalog, these are false alarms.
    """

    policy: str
    queries: str
    n_queries: int
    own_song: Estimate | None
    any_song: Estimate


def power(
    catalog: Mapping[Channel, np.ndarray],
    controls: Mapping[Channel, np.ndarray],
    asked: Mapping[Channel, np.ndarray],
    queries: Sequence[Query],
    songs: Sequence[int],
) -> list[Power]:
    """Judge queries by every policy.

    Args:
        catalog, controls, asked: channel → float32 unit vectors of songs, controls and queries.
        queries: in the order of `asked`.
        songs: position in the corpus of each song of the catalog.
    """
    noise, place = calibrate(catalog, controls), {recording: row for row, recording in enumerate(songs)}
    named: dict[tuple[str, str], list[tuple[bool, bool | None]]] = {}
    for q, query in enumerate(queries):
        judged = evidence_on_all(noise, catalog, {c: vectors_QD[q] for c, vectors_QD in asked.items()})
        own = place.get(query.recording)
        for name, policy in POLICIES.items():
            qualified_N = np.any([policy.qualify(evidence) for evidence in judged.values()], axis=0)
            found = None if own is None else bool(qualified_N[own])
            kind = f"{query.kind} {query.alteration}".strip()
            named.setdefault((kind, name), []).append((bool(qualified_N.any()), found))
    return [_summary(policy, kind, of) for (kind, policy), of in named.items()]


def _summary(policy: str, kind: str, named: list[tuple[bool, bool | None]]) -> Power:
    own = [found for _, found in named if found is not None]
    return Power(policy, kind, len(named), fraction(own) if own else None, fraction([one for one, _ in named]))


def fraction(found: Sequence[bool]) -> Estimate:
    """A fraction with its exact interval (Clopper and Pearson 1934): of few queries, all or none may be found."""
    test = binomtest(sum(found), len(found))
    interval = test.proportion_ci(method="exact")
    return Estimate(test.statistic, float(interval.low), float(interval.high))
