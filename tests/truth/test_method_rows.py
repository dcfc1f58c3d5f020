"""The report card on a bank whose truth is known: songs help queries by amounts that were laid down."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lumina_ray.errors import UsageError
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.evaluation_set import EvaluationSet, evaluation_set
from lumina_ray.truth.fingerprints import Fingerprints, required_fingerprints
from lumina_ray.truth.method_rows import MethodRow, method_rows
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL, Training, retrainings
from lumina_ray.vocabulary import CHANNELS
from tests.truth.small_bank import captions_of, small_bank

RECORDINGS = corpus(0)
RECIPE = replace(SMALL, subsets=24, repeats=1)
CODES = torch.zeros(4, 1000, dtype=torch.int64)


def of_effects(effects: dict[str, np.ndarray], bank: Bank, asked: dict[str, EvaluationSet]) -> dict:
    """Fingerprints whose inner products are given numbers: songs are unit vectors, a query is its row of effects."""
    made = {}
    for model, of in asked.items():
        controls = np.zeros((len(of.controls), len(of.songs)))
        vectors = np.concatenate([np.eye(len(of.songs)), effects[model], controls]).astype(np.float32)
        ones = np.ones(len(vectors))
        one = Fingerprints(
            dict.fromkeys(CHANNELS, vectors), dict.fromkeys(CHANNELS, ones), ones, dict.fromkeys(CHANNELS, 1), 0.5, {}
        )
        made[model, model, "influence"] = made[model, "reference", "influence"] = one
    return made


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def bank(rng: np.random.Generator) -> Bank:
    catalog = members(RECORDINGS, "A")
    works = sorted({r.work for r in RECORDINGS if r.role == "twin"})[:10]
    twins = [i for i, r in enumerate(RECORDINGS) if r.work in works]
    queries = [Query("excerpt", "A", i, "test", CODES[:, 750:]) for i in catalog[:10]]
    queries += [Query("generated", "A", -1, "test", CODES[:, :500]) for _ in range(40)]
    unheard = [i for i, r in enumerate(RECORDINGS) if r.role == "cell" and r.side == "B"]
    queries += [Query("unheard", "A", i, "test", CODES[:, :500]) for i in unheard]
    twin_queries = [Query("prompted", m, i, "test", CODES[:, :500]) for m in ("A", "B") for i in twins]
    twin_queries += [Query("altered", "A", i, "test", CODES[:, :500], "mp3") for i in catalog[:6]]
    trainings = [Training("A", tuple(catalog), 0), *retrainings(RECIPE, RECORDINGS, captions_of(RECORDINGS))]
    effects_QN = rng.normal(size=(len(queries), len(RECORDINGS)))
    losses_RQ = np.array([5 - effects_QN[:, list(training.songs)].sum(axis=1) for training in trainings])
    losses_RQK = np.repeat(losses_RQ[:, :, None], 4, axis=2).astype(np.float32)
    return small_bank(RECIPE, RECORDINGS, [CODES] * len(RECORDINGS), queries, twin_queries, {}, trainings, losses_RQK)


def effects_of(bank: Bank) -> np.ndarray:
    """What each song of the catalog does for each query, solved for from the losses."""
    masks = bank.masks(list(range(len(bank.trainings))), list(range(len(RECORDINGS)))).astype(float)
    return np.linalg.lstsq(masks, 5 - bank.losses_RQK[:, :, 0], rcond=None)[0].T


def row(bank: Bank, effects: dict[str, np.ndarray], asked: dict[str, EvaluationSet], which: int = 0) -> MethodRow:
    return list(method_rows(bank, ["influence"], asked, of_effects(effects, bank, asked)))[which]


def test_the_true_effects_agree_wholly_and_others_do_not(bank: Bank, rng: np.random.Generator) -> None:
    asked = {model: evaluation_set(bank, model, "test") for model in ("A", "B")}
    random = {model: rng.normal(size=(len(of.queries), len(of.songs))) for model, of in asked.items()}
    A, true = asked["A"], {model: effects.copy() for model, effects in random.items()}
    place = {id(query): i for i, query in enumerate(bank.queries)}
    solved = effects_of(bank)
    for q, query in enumerate(A.queries):
        if id(query) in place:
            true["A"][q, : A.n_catalog] = solved[place[id(query)]][list(A.songs[: A.n_catalog])]
    for measure in ("lds_excerpt", "lds_generated", "creators"):
        assert row(bank, true, asked).measures[measure].value > 0.99
    for kind in ("excerpt", "generated"):
        assert abs(row(bank, random, asked).measures[f"lds_{kind}"].value) < 0.3


def test_twins_and_cells_are_told_apart_by_what_the_scores_prefer(bank: Bank) -> None:
    asked = {model: evaluation_set(bank, model, "test") for model in ("A", "B")}
    effects = {}
    for model, of in asked.items():
        songs = [RECORDINGS[i] for i in of.songs]
        effects[model] = np.array(
            [
                [
                    (2.0 if song.side == model else 1.0)
                    + (10.0 * (song.work == RECORDINGS[query.recording].work) if query.kind == "unheard" else 0.0)
                    for song in songs
                ]
                for query in of.queries
            ]
        )
    measures = row(bank, effects, asked).measures
    assert measures["twins_prompted"].value == measures["twins_generated"].value == 1
    assert measures["same_score"].value == 1
    assert measures["same_instruments"].value == 0.5
    # The reference is given the very same scores: nothing is left to prefer.
    relative = row(bank, effects, asked, which=1)
    assert relative.method == "influence − reference"
    assert relative.measures["twins_prompted"].value == relative.measures["same_score"].value == 0.5
    assert (relative.numbers, relative.seconds_per_song) == (2 * len(asked["A"].songs), 1.0)


def test_an_altered_copy_is_found_when_its_song_is_the_first(bank: Bank) -> None:
    asked = {model: evaluation_set(bank, model, "test") for model in ("A", "B")}
    effects = {model: np.zeros((len(of.queries), len(of.songs))) for model, of in asked.items()}
    A = asked["A"]
    altered = [q for q, query in enumerate(A.queries) if query.kind == "altered"]
    for number, q in enumerate(altered):
        # Twice another song is ahead.
        effects["A"][q, A.songs.index(A.queries[q].recording) + (number < 2)] = 1
    assert row(bank, effects, asked).found["mp3"].value == 4 / 6


def test_what_is_needed_is_listed_once_and_unknown_methods_are_refused() -> None:
    assert required_fingerprints(["stats", "stats-kernel", "random"]) == [("A", "A", "stats"), ("B", "B", "stats")]
    assert ("B", "B-early", "gradient") in required_fingerprints(["trak"])
    assert ("A", "reference", "influence") in required_fingerprints(["influence"])
    with pytest.raises(UsageError, match="no method 'grad'"):
        required_fingerprints(["grad"])


def test_kinds_without_policies_are_asked_about_no_copies_and_no_controls(bank: Bank) -> None:
    judged, other = evaluation_set(bank, "A", "test", "companion"), evaluation_set(bank, "A", "test", "logra")
    assert [query for query in judged.queries if query.kind != "altered"] == list(other.queries)
    assert len(judged.controls) == sum(recording.role == "control" for recording in RECORDINGS)
    assert not other.controls


def test_only_queries_of_the_split_are_asked(bank: Bank) -> None:
    assert evaluation_set(bank, "A", "dev").queries == ()
    asked = evaluation_set(bank, "B", "test")
    assert {query.model for query in asked.queries} == {"B"}
    assert set(asked.songs[: asked.n_catalog]) == set(members(RECORDINGS, "B"))
