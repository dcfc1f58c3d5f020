"""Floors: what they are made with, that they are paired, and that the card says which of them stand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.music_statistics import measure_music_statistics
from lumina_ray.methods import METHODS
from lumina_ray.model.files import find_model, weights_sha256
from lumina_ray.truth.agreement import Agreement
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.bigram import Bigram
from lumina_ray.truth.card import floors_not_beaten, verdict
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.evaluation_set import evaluation_set
from lumina_ray.truth.fingerprints import Fingerprints, companion_names, make_fingerprints
from lumina_ray.truth.floors import Floors, floor_set, required_floors
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.method_rows import MethodRow, method_rows
from lumina_ray.truth.models import new_model, weights_of
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL, retrainings
from lumina_ray.truth.scores import BOTH, ScoredChannel
from lumina_ray.vocabulary import CHANNELS, SongCodes
from tests.truth.small_bank import TEXT, captions_of, small_bank

RECORDINGS = corpus(0)
CATALOG = members(RECORDINGS, "A")
RECIPE = replace(SMALL, n_layers=1, dim=32, heads=2, subsets=24, removals=0, repeats=0)


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Models of one set of weights, and queries whose losses are noise."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    codes = [torch.randint(512, (4, 40), generator=generator) for _ in RECORDINGS]
    queries = [Query("excerpt", "A", i, "test", codes[i][:, 20:]) for i in CATALOG[:12]]
    extra = [Query("altered", "A", CATALOG[0], "test", codes[0], "mp3")]
    weights = weights_of(new_model(RECIPE, TEXT))
    trainings = list(retrainings(RECIPE, RECORDINGS, captions_of(RECORDINGS)))
    losses_RQK = rng.normal(size=(len(trainings), len(queries), 4)).astype(np.float32)
    models = dict.fromkeys(("base", "A", "A-early", "reference", "reference-1"), weights)
    return small_bank(RECIPE, RECORDINGS, codes, queries, extra, models, trainings, losses_RQK)


@pytest.fixture(scope="module")
def bigram() -> Bigram:
    return Bigram(new_model(RECIPE, TEXT), seed=0)


def test_a_bigram_is_a_decayed_sum_of_what_came_before(bigram: Bigram) -> None:
    codes_BKT = torch.randint(512, (2, 4, 30), generator=torch.Generator().manual_seed(1))
    hidden_BKTD = bigram.predict(codes_BKT, [30, 30]).hidden_BKTD
    tables_KCD = torch.randn(4, 512, 32, generator=torch.Generator().manual_seed(0))
    for t in (0, 1, 7, 29):
        expected_D = sum((0.8 ** (t - 1 - s) * tables_KCD[k, codes_BKT[1, k, s]] for s in range(t) for k in range(4)),
                         start=torch.zeros(32))  # fmt: skip
        for k in range(4):
            torch.testing.assert_close(hidden_BKTD[1, k, t], expected_D)


def test_a_bigram_makes_the_same_bits_whatever_is_in_the_batch(bigram: Bigram) -> None:
    rng = np.random.default_rng(0)
    songs = [SongCodes((rng.integers(0, 512, (4, n)).astype(np.uint16),), (0.0,)) for n in (500, 30, 211)]
    measure_music_statistics(bigram, lambda: songs, range(3))
    specification = Specification.for_model(bigram, "influence")
    together = list(Fingerprinter(bigram, specification, chunks_in_flight=3).many(songs))
    for song, other in zip(songs, together, strict=True):
        alone = Fingerprinter(bigram, specification)(song)
        assert all(np.array_equal(alone.vectors[c], other.vectors[c]) for c in CHANNELS)
        assert np.linalg.norm(alone.vectors["P"]) == pytest.approx(1)
    assert not np.array_equal(together[0].vectors["P"], together[2].vectors["P"])


def test_floors_are_asked_about_the_catalog_and_about_queries_with_losses(bank: Bank) -> None:
    asked = floor_set(bank, "test")
    assert list(asked.songs) == CATALOG
    assert list(asked.queries) == bank.queries
    assert asked.controls == ()
    assert required_floors(bank, ["influence", "tokens", "random", "trak"]) == [
        ("A", "A", "tokens"),
        ("A", "bigram", "influence"),
        *(("A", weights, "influence") for weights in ("untrained", "reference", "reference-1", "base")),
        *(("A", weights, "gradient") for weights in ("untrained", "reference", "reference-1", "base")),
    ]


def test_baselines_hear_nanos_codec_and_have_no_floors_by_other_weights(bank: Bank) -> None:
    of_tokens = [("A", "A", "tokens"), ("A", "bigram", "influence")]
    assert required_floors(bank, ["codec-activations", "embedding:musicnn"]) == of_tokens
    asked = replace(floor_set(bank, "test"), songs=tuple(CATALOG[:1]), n_catalog=1, queries=tuple(bank.queries[:1]))
    made = make_fingerprints(bank, "A", "codec-activations", asked)
    # The codec of the bank's own models is untrained.
    assert made.weights_sha256 == weights_sha256(find_model("nano"))
    assert made.vectors["P"].shape == made.vectors["M"].shape == (2, 96)


def test_a_stand_in_has_the_statistics_of_the_audited_catalog(bank: Bank) -> None:
    asked = replace(floor_set(bank, "test"), songs=tuple(CATALOG[:3]), n_catalog=3, queries=tuple(bank.queries[:2]))
    audited = make_fingerprints(bank, "A", "influence", asked)
    stand_in = make_fingerprints(bank, "reference", "influence", asked, stand_in=True)
    by_itself = make_fingerprints(bank, "reference", "influence", asked)
    untrained = make_fingerprints(bank, "untrained", "influence", asked, stand_in=True)
    for channel in CHANNELS:
        # All have the same weights here (but for float16), and differ by the statistics alone.
        np.testing.assert_array_equal(stand_in.vectors[channel], audited.vectors[channel])
        np.testing.assert_allclose(untrained.vectors[channel], audited.vectors[channel], atol=1e-3)
        assert not np.allclose(by_itself.vectors[channel], audited.vectors[channel], atol=1e-3)
    assert audited.probabilities is None


def test_companions_are_an_earlier_checkpoint_and_what_all_models_start_from(bank: Bank) -> None:
    asked = replace(floor_set(bank, "test"), songs=tuple(CATALOG[:3]), n_catalog=3, queries=tuple(bank.queries[:2]))
    assert companion_names(bank, "A") == ["A-early", "base"]
    assert companion_names(bank, "reference") == companion_names(bank, "untrained") == ["base"]
    assert companion_names(bank, "base") == ["untrained"]
    assert ("A", "base", "companion") in required_floors(bank, ["companion"])
    audited = make_fingerprints(bank, "A", "companion", asked)
    stand_in = make_fingerprints(bank, "reference", "companion", asked, stand_in=True)
    untrained = make_fingerprints(bank, "untrained", "companion", asked, stand_in=True)
    by_itself = make_fingerprints(bank, "reference", "companion", asked)
    for channel in CHANNELS:
        # All have the same weights here (but for float16), and differ by what they were measured on alone.
        # Between two queries there is the noise of the projection, too.
        made = [one.vectors[channel] for one in (audited, stand_in, untrained, by_itself)]
        similar = [vectors @ vectors[:3].T for vectors in made]
        np.testing.assert_allclose(similar[1], similar[0], atol=1e-5)
        np.testing.assert_allclose(similar[2], similar[0], atol=1e-3)
        assert not np.allclose(similar[3], similar[0], atol=1e-3)


def random_fingerprints(seed: int, n: int) -> Fingerprints:
    rng = np.random.default_rng(seed)
    vectors = {c: rng.normal(size=(n, 50)).astype(np.float32) for c in CHANNELS}
    vectors = {c: of / np.linalg.norm(of, axis=1, keepdims=True) for c, of in vectors.items()}
    return Fingerprints(vectors, dict.fromkeys(CHANNELS, np.ones(n)), None, dict.fromkeys(CHANNELS, 1), 0.5, {})


def test_a_floor_with_the_methods_own_fingerprints_is_no_way_behind(bank: Bank) -> None:
    asked = {model: evaluation_set(bank, model, "test", "influence") for model in ("A", "B")}
    of_floors = floor_set(bank, "test")
    n = len(CATALOG)
    own = {model: random_fingerprints(seed, len(of.songs) + len(of.queries) + len(of.controls))
           for seed, (model, of) in enumerate(asked.items())}  # fmt: skip
    made = {(model, weights, "influence"): own[model] for model in ("A", "B") for weights in (model, "reference")}
    places = [*range(n), *(len(asked["A"].songs) + 1 + q for q in range(12))]
    same = replace(own["A"], vectors={c: own["A"].vectors[c][places] for c in CHANNELS},
                   norms=dict.fromkeys(CHANNELS, np.ones(len(places))))  # fmt: skip
    floors_made = {key: random_fingerprints(9, n + 12) for key in required_floors(bank, ["influence"])}
    floors_made["A", "untrained", "influence"] = same
    floors = Floors(bank, of_floors, floors_made)
    rows = list(method_rows(bank, ["influence"], asked, made, floors))
    row = next(row for row in rows if (row.method, row.channel) == ("influence", "P"))
    assert [row.channel for row in rows if row.method == "influence"] == ["P", "M", BOTH]
    expected = {"untrained", "reference", "reference-1", "base", "bigram", "tokens", "random"}
    for measure in ("lds_excerpt", "lds_excerpt_own", "lds_excerpt_specific", "creators"):
        assert set(row.ahead[measure]) == expected
        assert row.ahead[measure]["untrained"] == Estimate(0, 0, 0)
        assert row.ahead[measure]["bigram"] != Estimate(0, 0, 0)
    (both,) = (row for row in rows if (row.method, row.channel) == ("influence", BOTH))
    assert both.ahead["lds_excerpt"]["untrained"] == Estimate(0, 0, 0)
    assert both.numbers == 2 * row.numbers
    # Paired: both are drawn alike.
    scored = Agreement(bank, of_floors)("P", same.vectors["P"][n:].astype(float) @ same.vectors["P"][:n].T)
    assert row.measures["lds_excerpt"].value == pytest.approx(scored["lds_excerpt"].value, abs=1e-6)
    assert "tokens" not in floors.ahead(METHODS["tokens"], "P", scored)["lds_excerpt"]


def with_floors(method: str, channel: ScoredChannel, name: str = "lds_excerpt", **ahead: Estimate) -> MethodRow:
    return MethodRow(method, channel, {}, {}, 1, 0.0, {name: ahead})


def test_the_verdict_is_on_the_default_method_and_names_every_floor_that_stands() -> None:
    clear, touching = Estimate(0.2, 0.1, 0.3), Estimate(0.2, 0.0, 0.3)
    rows = [
        with_floors("companion", BOTH, bigram=clear, untrained=clear),
        with_floors("companion", BOTH, "lds_pieces_specific", bigram=touching, untrained=clear),
        with_floors("companion", "P", base=touching),
        with_floors("companion", BOTH, "lds_control", base=touching),
        with_floors("tokens", BOTH, random=touching),
    ]
    assert floors_not_beaten(rows) == {"bigram": ["lds_pieces_specific"]}
    assert "bigram (lds_pieces_specific)" in verdict(rows)
    assert floors_not_beaten(rows[:1]) == {}
    assert "beats all floors" in verdict(rows[:1])
    assert floors_not_beaten(rows[2:]) is None
    assert "not compared with any floor" in verdict(rows[2:])
