"""Membership: can one number a song, whatever the query, tell whether a model was trained on it?

Asked of two sets of models. Models A and B were trained on a catalog each, and the bank's reference models on neither:
so is evidence made for users, but all that A and B did not hear of that kind are other recordings of scores that they
know. Each reference model, in turn, learned from a random part of the outside music, and A and B from none of it: what
it did not hear was left out by the toss of a coin.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.calibration import ALPHA
from lumina_ray.calibration.membership import evidence_of, membership_p_values
from lumina_ray.fingerprint.likelihood import Likelihood, likelihood, observe
from lumina_ray.fingerprint.observed import Observed
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import members
from lumina_ray.truth.evaluation_set import EvaluationSet, evaluation_set, twin_places, works
from lumina_ray.truth.measures import Estimate, bootstrap, mean, precedence
from lumina_ray.truth.queries import TRAINED_FRAMES, Split, splits_of
from lumina_ray.truth.unlearning import beginnings

Likelihoods = Mapping[str, Mapping[int, Likelihood]]
"""Model → position in the corpus of a recording → how likely that model finds it."""
_CATALOGS = ("A", "B")
_OTHERS = ("A", "A-second", "B")
"""Models that never heard the outside music: references where reference models are audited."""


@dataclass(frozen=True)
class MembershipRow:
    """One signal: how well it tells songs that a model was trained on from others.

    Attributes:
        signal: what it is, and by how many references.
        twins: how often the recording of a work that was trained on has more of it than its unheard twin.
        trained: how often songs that the model was trained on have p ≤ 0.05 by the bank's controls
            (`lumina_ray.calibration.membership`). The interval is over works and controls, both drawn again.
        refuted: how often the same songs are refuted, at that level.
        unheard: as `trained`, of twins and cells that the model never heard: other recordings of scores that it knows.
        left_out: as `trained`, of outside music that was left out of a model's training at random.
        drawn: as `trained`, of the outside music that was not left out.
    """

    signal: str
    twins: Estimate
    trained: Estimate
    refuted: Estimate
    unheard: Estimate
    left_out: Estimate
    drawn: Estimate


@dataclass(frozen=True)
class _Audit:
    """A model that is asked about songs, with references that saw none of them."""

    audited: str
    references: tuple[str, ...]
    trained: tuple[int, ...]
    unheard: tuple[int, ...]


def models_asked(bank: Bank) -> list[str]:
    """Name the models of a bank that `likelihoods` are needed of."""
    return [*_OTHERS, *_references(bank)]


def likelihoods(bank: Bank, model: TransformersMusicGen, name: str, split: Split) -> dict[int, Likelihood]:
    """Compute how likely one of `models_asked` finds the recordings that it is asked about, by position in the corpus.

    They are the beginnings that models are trained on, chunk by chunk as `lumina use` has them.
    """
    asked = [i for audit in _audits(bank, split) if name in (audit.audited, *audit.references) for i in _songs(audit)]
    wanted = sorted({*asked, *_controls(bank)})
    songs = beginnings(bank, model, wanted, TRAINED_FRAMES)
    return {i: likelihood(model, song) for i, song in zip(wanted, songs, strict=True)}


def membership_rows(bank: Bank, split: Split, found: Likelihoods) -> Iterator[MembershipRow]:
    """Measure likelihoods as membership evidence: a model that learned from a song finds it likelier than others do.

    References take off how likely the song is to begin with (Watson et al. 2022, arXiv:2111.08440).

    Args:
        found: of each of `models_asked`.
    """
    audits, controls = _audits(bank, split), _controls(bank)
    of_catalogs = [audit for audit in audits if audit.audited in _CATALOGS]
    of_outside = [audit for audit in audits if audit.audited not in _CATALOGS]
    for signal, n_references, measure in _signals(len(_references(bank))):
        fits = {}
        for audit in audits:
            places = [*_songs(audit), *controls]
            references = [found[name] for name in audit.references[:n_references]]
            values = measure([observe(found[audit.audited][i], [of[i] for of in references]) for i in places])
            fits[audit.audited] = dict(zip(places, values.tolist(), strict=True))

        def rate(audits: Sequence[_Audit], *, trained: bool, refuted: bool = False, of: dict = fits) -> Estimate:
            return _significant(bank, audits, of, controls, trained=trained, refuted=refuted)

        yield MembershipRow(
            signal,
            twins=_twins(bank, split, fits),
            trained=rate(of_catalogs, trained=True),
            refuted=rate(of_catalogs, trained=True, refuted=True),
            unheard=rate(of_catalogs, trained=False),
            left_out=rate(of_outside, trained=False),
            drawn=rate(of_outside, trained=True),
        )


def _signals(n_references: int) -> Iterator[tuple[str, int, Callable[[Sequence[Observed]], np.ndarray]]]:
    """Give the signals: name, number of references, and the numbers of tracks by what models find of them."""
    yield "log-likelihood", 1, lambda tracks: np.array([of.audited for of in tracks])
    yield "excess, 1 reference", 1, lambda tracks: np.array([of.audited - of.references[0] for of in tracks])
    yield "evidence, 1 reference", 1, evidence_of
    if n_references > 1:
        yield f"evidence, {n_references} references", n_references, evidence_of


def _audits(bank: Bank, split: Split) -> list[_Audit]:
    references = _references(bank)
    of_split, audits = works(bank, split, "excerpt", "unheard"), []
    for of in _asked(bank, split):
        trained, unheard = (
            tuple(i for i in songs if bank.recordings[i].work in of_split)
            for songs in (of.songs[: of.n_catalog], of.songs[of.n_catalog :])
        )
        audits.append(_Audit(of.model, references, trained, unheard))
    splits = splits_of(bank.recordings, bank.recipe.seed)
    outside = [i for i in members(bank.recordings, "reference") if splits[bank.recordings[i].work] == split]
    learned = {training.name: set(training.songs) for training in bank.trainings}
    for name in references:
        audits.append(
            _Audit(
                name,
                _OTHERS,
                tuple(i for i in outside if i in learned[name]),
                tuple(i for i in outside if i not in learned[name]),
            )
        )
    return audits


def _asked(bank: Bank, split: Split) -> list[EvaluationSet]:
    return [evaluation_set(bank, model, split, None) for model in ("A", "B")]


def _references(bank: Bank) -> tuple[str, ...]:
    return tuple(name for name in bank.models if name.startswith("reference") and not name.endswith("-early"))


def _controls(bank: Bank) -> list[int]:
    return [i for i, recording in enumerate(bank.recordings) if recording.role == "control"]


def _songs(audit: _Audit) -> tuple[int, ...]:
    return audit.trained + audit.unheard


def _twins(bank: Bank, split: Split, fits: Mapping[str, Mapping[int, float]]) -> Estimate:
    """How often the recording that a model knows has more than its twin: a mean over works, of both models."""
    won: dict[str, list[float]] = {}
    for of in _asked(bank, split):
        for work, *places in twin_places(bank, of):
            known, unheard = (np.array([fits[of.model][of.songs[place]]]) for place in places)
            won.setdefault(work, []).append(precedence(known, unheard))
    return mean(np.array([np.mean(wins) for wins in won.values()]))


def _significant(
    bank: Bank,
    audits: Sequence[_Audit],
    fits: Mapping[str, Mapping[int, float]],
    controls: Sequence[int],
    *,
    trained: bool,
    refuted: bool,
) -> Estimate:
    """Rate at which songs have p ≤ `ALPHA` by the controls, over their works and all audited models."""
    sign = -1 if refuted else 1
    names = sorted({bank.recordings[i].work for audit in audits for i in (audit.trained if trained else audit.unheard)})
    number = {work: w for w, work in enumerate(names)}
    values = [
        (
            np.array([sign * fits[audit.audited][i] for i in asked]),
            np.array([number[bank.recordings[i].work] for i in asked]),
            np.array([sign * fits[audit.audited][i] for i in controls]),
        )
        for audit in audits
        if (asked := audit.trained if trained else audit.unheard)
    ]

    def rate(times_W: np.ndarray, drawn_C: np.ndarray) -> float:
        found = n = 0.0
        for fit_N, work_N, fit_C in values:
            times_N = times_W[work_N]
            found += float(times_N[membership_p_values(fit_N, fit_C[drawn_C]) <= ALPHA].sum())
            n += float(times_N.sum())
        return found / n

    W, C = len(names), len(controls)

    def draw(rng: np.random.Generator) -> float:
        return rate(np.bincount(rng.integers(W, size=W), minlength=W), rng.integers(C, size=C))

    return bootstrap(rate(np.ones(W), np.arange(C)), draw)
