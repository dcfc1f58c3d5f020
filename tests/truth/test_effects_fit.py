"""Effects of a whole bank: which queries and models they take, and the file that they are kept in."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lumina_ray.calibration.effects import catalog_sha256
from lumina_ray.cli.main import app
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.methods import METHODS
from lumina_ray.truth import effects_fit
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.effects_fit import (
    Effects,
    effect_set,
    fit_effects,
    fit_kind,
    load_effects,
    save_effects,
    sentences,
)  # fmt: skip
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.fingerprints import Fingerprints
from lumina_ray.truth.queries import Query, Split
from lumina_ray.truth.recipe import SMALL, Training, retrainings, whole_catalogs
from lumina_ray.truth.scores import control_scores
from lumina_ray.truth.unlearning import song_codes
from lumina_ray.vocabulary import Channel
from tests.truth.small_bank import captions_of, small_bank

RECORDINGS = corpus(0)
CATALOG = members(RECORDINGS, "A")
RECIPE = replace(SMALL, subsets=16, removals=12, repeats=4)
B = {"excerpt": 0.02, "captioned": 0.05}
NOISE = 0.01
CODES = torch.zeros(4, 1, dtype=torch.int64)
SPLITS: tuple[Split, Split] = ("dev", "test")
CHANNELS: tuple[Channel, ...] = ("P", "M")
QUERIES = [
    # Others lie between them: places in the bank and in the evaluation set differ.
    *(Query("control", "A", -1, "dev", CODES) for _ in range(3)),
    *(Query("excerpt", "A", i, SPLITS[number % 2], CODES) for number, i in enumerate(CATALOG[:16])),
    *(Query("foreign", "A", -1, SPLITS[i % 2], CODES) for i in range(10)),
    *(Query("captioned", "A", -1, SPLITS[i % 2], CODES, caption=f"caption {i}") for i in range(12)),
    *(Query("guided", "A", -1, "test", CODES, caption=f"caption {i}") for i in range(12)),
]
_Z = np.random.default_rng(0).exponential(1.0, (2, len(QUERIES), len(CATALOG))) ** 2 - 1


def z_of_set(asked: EvaluationSet) -> dict[Channel, np.ndarray]:
    position = {id(query): q for q, query in enumerate(QUERIES)}
    rows = [position[id(query)] for query in asked.queries]
    return {channel: _Z[number, rows] for number, channel in enumerate(CHANNELS)}


def _bank() -> Bank:
    """Losses that are made of effects; models from another seed are all a little better, and noise is in all."""
    rng = np.random.default_rng(1)
    trainings = [*whole_catalogs(RECIPE, RECORDINGS), *retrainings(RECIPE, RECORDINGS, captions_of(RECORDINGS))]
    losses_RQ = np.zeros((len(trainings), len(QUERIES)))
    for kind, b in B.items():
        fitted_on = [q for q, query in enumerate(QUERIES) if (query.kind, query.split) == (kind, "dev")]
        scales = np.sqrt((np.maximum(_Z[:, fitted_on], 0) ** 2).mean(axis=(1, 2)))
        effects_QN = b * (np.maximum(_Z, 0) / scales[:, None, None]).sum(axis=0)
        for r, training in enumerate(trainings):
            learned = [n for n, song in enumerate(CATALOG) if song in training.songs]
            for q, query in enumerate(QUERIES):
                if query.kind == kind:
                    losses_RQ[r, q] = 5 - effects_QN[q, learned].sum() - 3 * training.name.startswith("again")
    losses_RQ += NOISE * rng.normal(size=losses_RQ.shape)
    losses_RQK = np.repeat(losses_RQ[:, :, None], 4, axis=2) + np.array([-1, 1, 2, -2])
    codes = [CODES] * len(RECORDINGS)
    return small_bank(RECIPE, RECORDINGS, codes, QUERIES, [], {}, trainings, losses_RQK.astype(np.float32))


@pytest.fixture(scope="module")
def bank() -> Bank:
    return _bank()


@pytest.fixture(scope="module", autouse=True)
def _known_scores() -> Iterator[None]:
    """Scores of `QUERIES` for every method that has any, and intervals of few draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lumina_ray.truth.measures.DRAWS", 40)
        patch.setattr(
            effects_fit, "make_fingerprints", lambda *_: Fingerprints({}, {}, None, {}, 0.0, {}, "a" * 64, "b" * 64)
        )
        scored = effects_fit.z_of

        def z_of(bank: Bank, method: str, asked: EvaluationSet, made: Any) -> dict[Channel, np.ndarray]:
            return z_of_set(asked) if method == "influence" else scored(bank, method, asked, made)

        patch.setattr(effects_fit, "z_of", z_of)
        yield


@pytest.fixture(scope="module")
def effects(bank: Bank) -> Effects:
    return fit_effects(bank, "influence")


def test_every_kind_has_its_own_b_and_others_a_reason(effects: Effects) -> None:
    assert list(effects.kinds) == ["excerpt", "captioned"]
    for kind, one in effects.kinds.items():
        assert one.fitted.b.value == pytest.approx(B[kind], rel=0.1)
        assert one.fitted.half_b.value == pytest.approx(B[kind], rel=0.1)
        assert one.fitted.noise == pytest.approx(NOISE, rel=0.4)
        assert (one.fitted.n_models, one.fitted.n_queries) == (12, 8 if kind == "excerpt" else 6)
        assert [best.n_songs for best in one.best] == [1, 3, 5, 10, 20]
        for best in one.best:
            assert best.predicted == pytest.approx(best.actual.value, rel=0.15)
        removals = [check.removals for check in one.checks]
        assert removals == ["half", "tenth", "single", "without-creator", "without-class"]
        for check in one.checks:
            assert check.slope.value == pytest.approx(1, abs=0.15)
        # Only halves are not compared with model A.
        assert [check.mean_actual is None for check in one.checks] == [True, False, False, False, False]
        assert one.checks[1].mean_actual.value == pytest.approx(one.checks[1].mean_predicted, rel=0.1)  # type: ignore[union-attr]
    assert effects.left_out["generated"] == "the bank has no losses of this kind on dev and test"
    assert effects.left_out["guided"] == "the bank has no losses of this kind on dev"
    assert set(effects.left_out) == {"generated", "guided", "prompted", "continued"}
    assert (effects.method, effects.model, effects.n_songs) == ("influence", "A", len(CATALOG))
    assert (effects.weights_sha256, effects.specification_sha256) == ("a" * 64, "b" * 64)
    songs = [song_codes(CODES, 50.0).sha256] * len(CATALOG)
    assert effects.catalog_sha256 == catalog_sha256(songs) == catalog_sha256(reversed(songs))
    assert (effects.n_layers, effects.dim, effects.heads) == (RECIPE.n_layers, RECIPE.dim, RECIPE.heads)
    text = "\n".join(sentences(effects))
    assert f"excerpt: b {effects.kinds['excerpt'].fitted.b.value:.4f} [" in text
    assert "guided: left out" in text


def test_the_fit_never_sees_test(bank: Bank, effects: Effects) -> None:
    other = bank.losses_RQK.copy()
    other[:, [q for q, query in enumerate(QUERIES) if query.split == "test"]] = 7
    asked = {split: effect_set(bank, split) for split in SPLITS}
    z = {split: z_of_set(of) for split, of in asked.items()}
    again = fit_kind(bank, "excerpt", asked, z)
    assert again == effects.kinds["excerpt"]
    noisy = other + np.random.default_rng(0).normal(size=other.shape).astype(np.float32) * (other == 7)
    changed = fit_kind(replace(bank, losses_RQK=noisy), "excerpt", asked, z)
    assert changed.fitted == again.fitted
    assert changed.checks != again.checks


def test_a_bank_of_few_models_or_no_repeats_is_refused(bank: Bank) -> None:
    def only(wanted: Callable[[Training], bool]) -> Bank:
        rows = [row for row, training in enumerate(bank.trainings) if wanted(training)]
        return replace(bank, trainings=[bank.trainings[row] for row in rows], losses_RQK=bank.losses_RQK[rows])

    few = {f"half-{i:03}" for i in range(7, 16)}
    with pytest.raises(UsageError, match="7 models of halves"):
        fit_effects(only(lambda training: training.name not in few), "influence")
    with pytest.raises(UsageError, match="0 models without a tenth"):
        fit_effects(only(lambda training: not training.name.startswith("tenth")), "influence")
    with pytest.raises(UsageError, match="with repeats"):
        fit_effects(only(lambda training: not training.name.startswith("again")), "influence")


def test_methods_and_banks_without_scores_are_refused(bank: Bank) -> None:
    with pytest.raises(UsageError, match="no method 'nonsense'"):
        fit_effects(bank, "nonsense")
    with pytest.raises(UsageError, match="looks at no music"):
        fit_effects(bank, "random")
    controls_alone = replace(bank, queries=bank.queries[:3], losses_RQK=bank.losses_RQK[:, :3])
    with pytest.raises(UsageError, match="no kind of query"):
        fit_effects(controls_alone, "influence")


def test_controls_are_scored_as_queries_are(bank: Bank) -> None:
    asked = effect_set(bank, "dev")
    n = len(asked.songs) + len(asked.queries) + len(asked.controls)
    vectors_nD = np.random.default_rng(2).normal(size=(n, 8)).astype(np.float32)
    vectors_nD /= np.linalg.norm(vectors_nD, axis=1, keepdims=True)
    made = Fingerprints({"P": vectors_nD}, {"P": np.ones(n)}, None, {"P": 1}, 0.0, {})
    found = control_scores(bank, METHODS["influence"], "P", asked, {("A", "A", "influence"): made})
    expected = vectors_nD[-len(asked.controls) :] @ vectors_nD[: len(CATALOG)].T
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert {RECORDINGS[i].role for i in asked.controls} == {"control"}
    with pytest.raises(UsageError, match="no controls"):
        control_scores(bank, METHODS["influence"], "P", replace(asked, controls=()), {})


def test_effects_read_back_are_those_that_were_written(effects: Effects, tmp_path: Path) -> None:
    save_effects(effects, tmp_path / "effects.json")
    assert load_effects(tmp_path / "effects.json") == effects


def test_the_command_writes_the_file_and_says_what_is_in_it(
    bank: Bank, effects: Effects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("lumina_ray.truth.bank.load_bank", lambda folder: read.append(folder) or bank)
    command = ["effects", "fit", str(tmp_path / "bank"), "--out", str(tmp_path / "effects.json")]
    command += ["--method", "influence"]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0
    assert "\n".join(sentences(effects)) in told.stdout
    assert load_effects(tmp_path / "effects.json") == effects
    told = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(told.stdout) == json.loads((tmp_path / "effects.json").read_text())
    assert read == [tmp_path / "bank"] * 2


def _at(*path: str | int, to: Any) -> Callable[[dict], None]:
    def change(values: Any) -> None:
        *before, last = path
        for key in before:
            values = values[key]
        if to is None:
            del values[last]
        else:
            values[last] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_at("version", to=1), "effects of version 1, this software reads 4"),
        (_at("version", to=None), "effects of version None"),
        (_at("method", to=None), "method: Field required"),
        (_at("kinds", "excerpt", "fitted", "b", "value", to=-1.0), "above 0"),
        (_at("kinds", "excerpt", "fitted", "b", "value", to=float("nan")), "no effects"),
        (_at("kinds", "excerpt", "fitted", "noise", to="0.1"), "noise"),
        (_at("kinds", "excerpt", "fitted", "scatter", "song", to=-0.1), "must not be below 0"),
        (_at("kinds", "excerpt", "fitted", "scales", to={}), "above 0"),
        (_at("kinds", "excerpt", "fitted", "scales", "Q", to=1.0), "scales.Q"),
        (_at("kinds", "excerpt", "checks", 0, "slope", to=1.0), "slope"),
        (_at("kinds", "nonsense", to={}), "nonsense"),
        (_at("surprise", to=1), "surprise"),
    ],
)
def test_damaged_effects_are_refused(
    effects: Effects, tmp_path: Path, change: Callable[[dict], None], message: str
) -> None:
    path = tmp_path / "effects.json"
    save_effects(effects, path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(StoreError, match=f"{path}: .*{message}"):
        load_effects(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", '{"version": 1e999}'])
def test_what_is_no_file_of_effects_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "effects.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=f"{path}: .*effects"):
        load_effects(path)
    with pytest.raises(StoreError, match="lumina effects fit"):
        load_effects(tmp_path / "nowhere.json")
