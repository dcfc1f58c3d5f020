"""The tables of docs/unlearning.md: what they are made of, and that they are those of the results."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks import unlearning
from benchmarks.unlearning import GROUPS, PAGE, RESULTS, Measured, Sizes, frechet_distance
from benchmarks.unlearning_tables import with_tables
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.measures import lds
from lumina_ray.truth.models import new_model, weights_of
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import SMALL, Training
from lumina_ray.truth.scores import standardised
from lumina_ray.unlearning.scores import first_order
from lumina_ray.unlearning.unlearn import Forgetting
from tests.truth.small_bank import TEXT, small_bank

RECORDINGS = tuple(recording for recording in corpus(0) if recording.side != "B")
CATALOG = members(RECORDINGS, "A")[:6]
SIZES = Sizes(exact=2, trust_queries=2, trust_songs=6, self_songs=6, forgotten=8, judged=64, forget_nats=(0.05,))
RECIPE = replace(SMALL, n_layers=1, dim=32, heads=2, subsets=4, removals=0, repeats=0)


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return small_measured(tmp_path_factory.mktemp("scores"))


def small_measured(kept: Path) -> Measured:
    """A bank of six songs of 30 frames, asked about three of them on either split; losses are random."""
    recordings = tuple(RECORDINGS[i] for i in CATALOG)
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(512, (4, 30), generator=generator) for _ in recordings]
    kinds = ("excerpt", "prompted", "catalog")
    queries = [
        Query(kind, "A", i, split, codes[i][:, 10:])  # type: ignore[arg-type]
        for split in ("dev", "test")
        for kind in kinds
        for i in range(3)
    ]
    songs = tuple(range(len(recordings)))
    halves = [Training(f"half-{n:03}", songs[n:] + songs[: max(n - 3, 0)], 0) for n in range(4)]
    single = Training("single-000", songs[1:], 0, songs[:1])
    trainings = [Training("A", songs, 0), Training("A-second", songs, 1), single, *halves]
    losses_RQK = np.random.default_rng(0).normal(5, 0.1, (len(trainings), len(queries), 4)).astype(np.float32)
    weights = weights_of(new_model(RECIPE, TEXT))
    bank = small_bank(RECIPE, recordings, codes, queries, [], {"A": weights}, trainings, losses_RQK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unlearning, "load_bank", lambda _: bank)
        return Measured(Path("unused"), SIZES, kept)


def test_tables_are_made_of_scores_and_losses(of: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lumina_ray.truth.measures.DRAWS", 20)
    monkeypatch.setattr(unlearning, "NATS", (0.005,))
    found: dict = {"choose": unlearning.choose(of, {})}
    rows = {(row["layers"], row["damping"]): row for row in found["choose"]["rows"]}
    best = rows[found["choose"]["layers"], found["choose"]["damping"]]
    assert best["damping"] is not None
    of_all = {key: row["excerpts"] + row["continuations"] for key, row in rows.items() if key[1] is not None}
    assert best["excerpts"] + best["continuations"] == max(of_all.values())

    found["exact"] = unlearning.exact(of, found)
    exact = of.read("exact")["plain"]
    assert exact.shape == (4, 6)
    how = Forgetting(layers="heads", damping=found["choose"]["damping"])
    (query, *_) = of.codes(of.queries("test"))
    assert of.model.fisher is not None
    one = of.forgotten(query, replace(how, layers=found["choose"]["layers"]))
    np.testing.assert_allclose(exact[0], sum(standardised(one.of("plain", c)[None])[0] for c in ("P", "M")), rtol=1e-4)
    # To first order, by heads: against whole gradients, whose columns are not told apart.
    slopes = first_order(of.model, query, of.songs, of.model.fisher, how)
    by_columns = of.first_order("test", "heads", how.damping)[0]
    np.testing.assert_allclose(by_columns / by_columns[0], slopes / slopes[0], rtol=1e-3)
    steps = of.forgotten(query, how)
    expected = sum(standardised(steps.of("plain", c)[None])[0] for c in ("P", "M"))
    assert spearmanr(of.first_order_both("test", how.damping)[0], expected).statistic > 0.9

    of.keep("rivals", {name: np.random.default_rng(1).normal(size=(6, 6)) for name in ("influence", "companion")})
    found["report"] = unlearning.report(of, found)
    by_name = {row["name"]: row for row in found["report"]["rows"]}
    assert by_name["influence"]["ahead"]["influence"]["excerpts"]["value"] == 0
    scores_QN, queries = of.first_order("test", "self", found["choose"]["damping"]), of.queries("test")
    halves = of.bank.of_kind("half")
    for group, kinds in GROUPS.items():
        places = [q for q, query in enumerate(queries) if query.kind in kinds]
        losses_RQ = of.bank.losses_RQK[halves][:, of.bank.columns([queries[q] for q in places])].mean(axis=2)
        expected_lds = lds(scores_QN[places], of.bank.masks(halves, of.catalog), losses_RQ)
        assert by_name["first order, self"]["lds"][group]["value"] == pytest.approx(expected_lds.value)

    found["forget"] = unlearning.forget(of, found)
    assert (found["forget"]["songs"], found["forget"]["queries"]) == (1, 6)
    found["trust"] = unlearning.trust(of, found)
    assert all(row["spearman"] > 0.9 for row in found["trust"]["rows"])
    page = "".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in ("choose", "report", "cost", "trust", "forget"))
    drawn = with_tables(json.loads(json.dumps(found)), page)
    assert sum(line.startswith("| --- ") for line in drawn.splitlines()) == 5
    assert with_tables(found, drawn) == drawn


def test_frechet_distance_of_normal_samples() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(200_000, 3)) * [1, 2, 3]
    other = rng.normal(size=(200_000, 3)) * [2, 2, 1] + [3, 0, 4]
    # Variances that commute: squared differences of means and of standard deviations.
    assert frechet_distance(one, other) == pytest.approx(25 + 1 + 0 + 4, rel=0.01)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_the_page_has_the_tables_of_its_results() -> None:
    text = PAGE.read_text("utf-8")
    assert with_tables(json.loads(RESULTS.read_text("utf-8")), text) == text
