"""Membership: can one number a song, whatever the query, tell whether a model was trained on it?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lumina_ray.calibration import ALPHA
from lumina_ray.calibration.membership import membership_p_values
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import Audited
from lumina_ray.truth.evaluation_set import EvaluationSet, twin_places, works
from lumina_ray.truth.fingerprints import AllFingerprints, Fingerprints
from lumina_ray.truth.measures import Estimate, bootstrap, mean, precedence
from lumina_ray.truth.method_rows import RELATIVE
from lumina_ray.vocabulary import Kind

FIT = "log-likelihood"


@dataclass(frozen=True)
class MembershipRow:
    """One signal: how well it tells songs that a model was trained on from others.

    Attributes:
        signal: how likely the model finds the song, `FIT`; with `RELATIVE`, beyond what the reference model finds.
        twins: how often the recording of a work that was trained on has more of it than its unheard twin.
        trained: how often songs that the model was trained on have p ≤ 0.05 by the bank's controls
            (`lumina_ray.calibration.membership`). The interval is over works and controls, both drawn again.
        unheard: the same for twins and cells that the model never heard.
    """

    signal: str
    twins: Estimate
    trained: Estimate
    unheard: Estimate


def membership_rows(
    bank: Bank, asked: Mapping[Audited, EvaluationSet], made: AllFingerprints, kind: Kind
) -> Iterator[MembershipRow]:
    """Measure losses as membership evidence: a model that learned from a song finds it more likely than others do.

    A reference model takes off how likely the song is to begin with (Watson et al. 2022, arXiv:2111.08440).

    Args:
        kind: any whose fingerprints were made under the audited models and the reference model.
    """
    for relative in (False, True):
        twins: dict[str, list[float]] = {}
        fits: dict[Audited, np.ndarray] = {}
        for of in asked.values():
            fit = _fit(made[of.model, of.model, kind])
            if relative:
                fit = fit - _fit(made[of.model, "reference", kind])
            fits[of.model] = fit
            for work, trained, unheard in twin_places(bank, of):
                twins.setdefault(work, []).append(precedence(fit[[trained]], fit[[unheard]]))
        yield MembershipRow(
            FIT + RELATIVE * relative,
            twins=mean(np.array([np.mean(wins) for wins in twins.values()])),
            trained=_significant(bank, asked, fits, trained=True),
            unheard=_significant(bank, asked, fits, trained=False),
        )


def _fit(of: Fingerprints) -> np.ndarray:
    if of.probabilities is None:
        raise ValueError("these fingerprints were made without losses")
    return np.log(of.probabilities)


def _significant(
    bank: Bank, asked: Mapping[Audited, EvaluationSet], fits: Mapping[Audited, np.ndarray], *, trained: bool
) -> Estimate:
    """Rate at which songs have p ≤ `ALPHA` by the controls, over the works of the split and both models."""
    of_split = works(bank, asked["A"].split, "excerpt", "unheard")
    songs: dict[str, list[tuple[Audited, int]]] = {}
    for of in asked.values():
        for place, i in enumerate(of.songs):
            if (place < of.n_catalog) == trained and bank.recordings[i].work in of_split:
                songs.setdefault(bank.recordings[i].work, []).append((of.model, place))
    by_work = list(songs.values())
    controls = {model: fits[model][-len(of.controls) :] for model, of in asked.items()}

    def rate(chosen_W: np.ndarray, drawn_C: np.ndarray) -> float:
        found = []
        for model, fit in fits.items():
            places = [place for w in chosen_W for of_model, place in by_work[w] if of_model == model]
            found.append(membership_p_values(fit[places], controls[model][drawn_C]) <= ALPHA)
        return float(np.concatenate(found).mean())

    n_controls = len(asked["A"].controls)

    def draw(rng: np.random.Generator) -> float:
        return rate(rng.integers(len(by_work), size=len(by_work)), rng.integers(n_controls, size=n_controls))

    return bootstrap(rate(np.arange(len(by_work)), np.arange(n_controls)), draw)
