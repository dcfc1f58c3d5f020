"""Membership on a bank whose truth is known: what was learned is likelier, by as much in every window."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lumina_ray.calibration.membership import evidence_of
from lumina_ray.fingerprint.likelihood import Likelihood, likelihood, observe
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.membership import Likelihoods, likelihoods, membership_rows, models_asked
from lumina_ray.truth.models import Weights, new_model
from lumina_ray.truth.queries import Query, splits_of
from lumina_ray.truth.recipe import SMALL, whole_catalogs
from lumina_ray.vocabulary import SongCodes
from tests.truth.small_bank import TEXT, small_bank

RECORDINGS = corpus(0)
RECIPE = replace(SMALL, references=3, n_layers=1, dim=16, heads=2)
SPLITS = splits_of(RECORDINGS, RECIPE.seed)
CONTROLS = [i for i, recording in enumerate(RECORDINGS) if recording.role == "control"]
LEARNED = {training.name: set(training.songs) for training in whole_catalogs(RECIPE, RECORDINGS)}
REFERENCES = ("reference", "reference-1", "reference-2")


@pytest.fixture(scope="module")
def bank() -> Bank:
    rng = np.random.default_rng(0)
    codes = [torch.from_numpy(rng.integers(0, 512, (4, 60))) for _ in RECORDINGS]
    queries = [
        Query(kind, "A", i, SPLITS[RECORDINGS[i].work], codes[i])
        for kind, side in (("excerpt", "A"), ("unheard", "B"))
        for i, recording in enumerate(RECORDINGS)
        if recording.side == side or (recording.role == "plain" and kind == "excerpt")
    ]
    names = ("base", "A-early", "A", "A-second", "B", "reference-early", *REFERENCES)
    models: dict[str, Weights] = {name: {} for name in names}
    return small_bank(RECIPE, RECORDINGS, codes, queries, (), models, whole_catalogs(RECIPE, RECORDINGS))


@pytest.fixture(scope="module")
def found(bank: Bank) -> Likelihoods:
    """Models differ about a recording by as much as its windows scatter; what one learned is likelier by four times
    the standard error, which is less than recordings differ by from each other."""
    rng, n = np.random.default_rng(1), len(RECORDINGS)
    level, scale = rng.uniform(-9, -1, n), rng.uniform(0.01, 1, n)
    out: dict[str, dict[int, Likelihood]] = {}
    for name in models_asked(bank):
        own = scale * rng.normal(0, 0.2, n)
        own += 0.2 * 8 * scale * np.isin(np.arange(n), list(LEARNED[name]))
        windows = level[:, None] + own[:, None] + 0.2 * scale[:, None] * rng.normal(size=(n, 30))
        out[name] = {i: Likelihood(float(windows[i].mean()), windows[i]) for i in range(n)}
    return out


def test_evidence_finds_what_likelihood_alone_does_not(bank: Bank, found: Likelihoods) -> None:
    assert models_asked(bank) == ["A", "A-second", "B", *REFERENCES]
    alone, excess, one, several = membership_rows(bank, "test", found)
    assert [row.signal for row in (alone, excess, one, several)] == [
        "log-likelihood", "excess, 1 reference", "evidence, 1 reference", "evidence, 3 references",
    ]  # fmt: skip
    for row in (one, several):
        assert min(row.trained.value, row.drawn.value, row.twins.value) > 0.9
        # Of few works, and models that differ by more than their windows do.
        assert max(row.unheard.value, row.left_out.value) < 0.12
        assert row.refuted.value == 0
    assert alone.trained.value < 0.2
    assert alone.trained.value < excess.trained.value < min(one.trained.value, several.trained.value)
    for row in (alone, excess, one, several):
        for estimate in (row.trained, row.refuted, row.unheard, row.left_out, row.drawn):
            assert estimate.low <= estimate.value <= estimate.high


def test_rates_are_counts_of_songs_by_the_controls_of_their_model(bank: Bank, found: Likelihoods) -> None:
    *_, one, several = membership_rows(bank, "dev", found)

    def of_split(i: int) -> bool:
        return SPLITS[RECORDINGS[i].work] == "dev"

    def significant(audited: str, references: tuple[str, ...], songs: list[int], sign: int = 1) -> dict[int, bool]:
        everything = [*songs, *CONTROLS]
        values = sign * evidence_of([observe(found[audited][i], [found[r][i] for r in references]) for i in everything])
        bars = values[len(songs) :]
        return {
            i: (1 + sum(c >= value for c in bars)) / (len(bars) + 1) <= 0.05
            for i, value in zip(songs, values, strict=False)
        }

    outside = [i for i in members(RECORDINGS, "reference") if of_split(i)]
    of_catalogs = [i for i, r in enumerate(RECORDINGS) if (r.side or r.role == "plain") and of_split(i)]
    for row, n in ((one, 1), (several, 3)):
        rates: dict[str, list[bool]] = {"drawn": [], "left_out": [], "trained": [], "unheard": [], "refuted": []}
        for name in REFERENCES:
            for i, is_found in significant(name, ("A", "A-second", "B")[:n], outside).items():
                rates["drawn" if i in LEARNED[name] else "left_out"].append(is_found)
        for name in ("A", "B"):
            for i, is_found in significant(name, REFERENCES[:n], of_catalogs).items():
                rates["trained" if i in LEARNED[name] else "unheard"].append(is_found)
            low = significant(name, REFERENCES[:n], of_catalogs, -1)
            rates["refuted"] += [is_low for i, is_low in low.items() if i in LEARNED[name]]
        for name, of in rates.items():
            assert getattr(row, name).value == pytest.approx(np.mean(of))


def test_models_are_asked_about_the_songs_of_their_questions_and_all_controls(bank: Bank) -> None:
    model = new_model(RECIPE, TEXT)
    of = likelihoods(bank, model, "A-second", "held")
    wanted = [i for i in members(RECORDINGS, "reference") if SPLITS[RECORDINGS[i].work] == "held"]
    assert set(of) == {*wanted, *CONTROLS}
    i = wanted[0]
    song = SongCodes((bank.codes[i].numpy().astype(np.uint16),), (0.0,))
    assert of[i].mean == pytest.approx(likelihood(model, song).mean)
    songs = {i for i, r in enumerate(RECORDINGS) if (r.side or r.role == "plain") and SPLITS[r.work] == "held"}
    assert set(likelihoods(bank, model, "B", "held")) == {*wanted, *CONTROLS, *songs}
