"""Influence: effects against the similarities that they are made of, and files that belong to another catalog."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from scipy.stats import gamma

from lumina_ray.attribution import Report, attribute
from lumina_ray.attribution.partial import as_partial
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.calibration.effects import FIT_VERSION, catalog_sha256
from lumina_ray.calibration.membership import write_membership
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.index import IndexConfig, Shard, Snapshot, build_index, load_snapshot
from lumina_ray.index.shards import select, together
from lumina_ray.report import from_json, print_table, render_html, sentences, to_json, words
from lumina_ray.report.csv import write_csv
from lumina_ray.report.frame import to_frame
from lumina_ray.store import Store
from lumina_ray.vocabulary import counted
from tests.calibration.synthetic import DIMS, demo_stores, membership_evidence, mixture, query

B, SCALES, SONG_SCATTER, QUERY_SCATTER, HIDDEN, NOISE = 0.01, {"P": 1.2, "M": 0.9}, 0.7, 0.5, 0.003, 0.008


def fit_of(store: Store, kinds: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """A fit for a store; of each kind the lower end of R² and the upper end of the placebo's."""

    def of(r2_low: float, placebo_high: float) -> dict[str, Any]:
        estimate = {"value": 0.5, "low": r2_low, "high": 0.6}
        placebo = {"value": 0.0, "low": -0.5, "high": placebo_high}
        return {
            "fitted": {
                "b": {"value": B, "low": 0.008, "high": 0.012},
                "folds": [0.01, 0.01],
                "scales": SCALES,
                "scatter": {"song": SONG_SCATTER, "query": QUERY_SCATTER, "hidden": HIDDEN},
                "noise": NOISE,
                "n_models": 64,
                "n_queries": 50,
            },
            "checks": [{"removals": "half", "r2": estimate, "placebo_r2": placebo, "n_models": 64}],
        }

    return {
        "version": FIT_VERSION,
        "method": "influence",
        "weights_sha256": store.specification.weights_sha256,
        "specification_sha256": store.specification.sha256,
        "catalog_sha256": catalog_sha256(store.songs["codes_sha256"].to_pylist()),
        "kinds": {kind: of(*ends) for kind, ends in kinds.items()},
    }


def written(fit: Any, folder: Path) -> Path:
    path = folder / "effects.json"
    path.write_text(json.dumps(fit))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store, Path]:
    folder = tmp_path_factory.mktemp("influence")
    store, controls, _ = demo_stores(folder)
    write_calibration(calibrate_store(store, controls), store.path)
    return store, controls, folder


@pytest.fixture(scope="module")
def snapshot(made: tuple[Store, Store, Path]) -> Snapshot:
    store, _, folder = made
    file = written(fit_of(store, {"excerpt": (0.4, -0.2), "captioned": (0.1, 0.3)}), folder)
    return load_snapshot(build_index(store, folder / "index", IndexConfig(effects=file, effects_kind="excerpt")))


def clip(store: Store) -> dict[str, np.ndarray]:
    return {c: mixture(store.vectors(c)[17], store.vectors(c)[40], 0.6) for c in DIMS}


def test_effects_are_those_of_similarities_and_controls(made, snapshot: Snapshot) -> None:
    store, controls, _ = made
    finding = attribute(query(clip(store)), snapshot).influence
    assert finding is not None
    parts = {}
    for c in DIMS:
        songs, others = store.vectors(c).astype(float), controls.vectors(c).astype(float)
        to_controls = others @ songs.T
        z = (songs @ clip(store)[c].astype(float) - to_controls.mean(axis=0)) / to_controls.std(axis=0, ddof=1)
        parts[c] = B * np.maximum(z, 0) / SCALES[c]
    effects = parts["P"] + parts["M"]
    order = np.argsort(-effects)
    assert finding.catalog.effect == pytest.approx(effects.sum(), rel=1e-6)
    assert finding.catalog.share == 1
    assert [group.n_songs for group in finding.best] == [5, 10, 20]
    for group in finding.best:
        best = order[: group.n_songs]
        assert group.song_ids == tuple(store.song_ids[i] for i in best)
        assert group.effect == pytest.approx(effects[best].sum(), rel=1e-6)
        assert group.channels == pytest.approx({c: part[best].sum() for c, part in parts.items()}, rel=1e-6)
        assert group.share == pytest.approx(effects[best].sum() / effects.sum(), rel=1e-6)
        variance = SONG_SCATTER**2 * (effects[best] ** 2).sum() + QUERY_SCATTER**2 * effects[best].sum() ** 2
        law = gamma(effects[best].sum() ** 2 / variance, scale=variance / effects[best].sum())
        reach = 1.959964 * HIDDEN * group.n_songs**0.5
        bounds = [group.effect + np.hypot(bound - group.effect, reach) * side for bound, side in
                  zip(law.ppf([0.025, 0.975]), (-1, 1), strict=True)]  # fmt: skip
        assert (group.low, group.high) == pytest.approx(bounds, rel=1e-5)
    creators = np.array(store.songs["creator"].to_pylist())
    assert {group.name for group in finding.parties["creator"]} == set(creators)
    for group in finding.parties["creator"]:
        assert group.effect == pytest.approx(effects[creators == group.name].sum(), rel=1e-6)
        assert group.n_songs == (creators == group.name).sum()
    assert finding.parties["publisher"] == ()
    assert [of.name for of in finding.songs] == [store.song_ids[i] for i in order[:10]]
    assert all(of.low < of.effect < of.high for of in finding.songs)


def test_the_report_says_of_what_and_how_sure(made, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]) -> None:
    store, _, folder = made
    file = written(fit_of(store, {"captioned": (0.1, 0.3)}), folder)
    in_general = load_snapshot(build_index(store, folder / "in general", IndexConfig(effects=file)))
    without = load_snapshot(build_index(store, folder / "without"))
    reports = [attribute(query(clip(store)), of) for of in (snapshot, in_general, without)]
    assert [report.influence and report.influence.of for report in reports] == ["clip", "output", None]
    five = reports[0].influence.best[0]
    together = (
        f"Of this clip: 5 songs together {five.effect:.3f} [{five.low:.3f}, {five.high:.3f}] nats; the effects of all "
        f"130 songs add up to some {reports[0].influence.catalog.effect:.3f}; one retraining differs from the next by "
        "0.008."
    )
    for report, told in zip(
        reports, (together, "in general, not of this clip", "Shares tell likeness alone"), strict=True
    ):
        assert from_json(to_json(report)) == report
        assert told in " ".join(sentences.influence(report))
        assert told in render_html(report)
        print_table(report, Console(width=400))
        assert told in capsys.readouterr().out
    assert render_html(reports[0]).count('<div class="effect">') == 1 + 3 + 5 + 5
    # Canonical JSON sorts the channels; composition is shown first.
    assert list(words.effect_parts(from_json(to_json(reports[0])).influence.catalog)) == ["P", "M"]


def test_what_is_payable_is_of_songs_whose_use_is_not_refuted(
    made, snapshot: Snapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, controls, _ = made
    untested = attribute(query(clip(store)), snapshot)
    finding = untested.influence
    assert finding.refuted is None
    groups = (finding.catalog, *finding.best, *finding.songs, *finding.parties["creator"])
    assert all(group.payable == pytest.approx(group.share) for group in groups)
    assert "was not measured, so no song's use is refuted" in " ".join(sentences.influence(untested))

    # Song 17 would be worth most, and is less likely to the model than any control. Song 40 was learned.
    evidence = membership_evidence(store, controls, [40])
    standard = evidence.songs["evidence"].to_numpy().copy()
    standard[17] = -20
    songs = evidence.songs.set_column(4, "evidence", pa.array(standard))
    lowest = sorted(evidence.basis.control_evidence)
    # 50 controls: at most one of them may be as low.
    refuted = (np.array([(np.array(lowest) <= one).sum() for one in standard]) + 1) / 51 <= 0.05
    assert (refuted[17], refuted[40]) == (True, False)
    shutil.copytree(store.path, tmp_path / "catalog")
    write_membership(replace(evidence, songs=songs), tmp_path / "catalog")
    file = written(fit_of(store, {"excerpt": (0.4, -0.2)}), tmp_path)
    tested = load_snapshot(build_index(tmp_path / "catalog", tmp_path / "index", IndexConfig(effects=file)))
    report = attribute(query(clip(store)), tested)
    found = report.influence
    assert found.refuted == refuted.sum()
    effects = {of.name: of.effect for of in found.songs}
    assert effects == {of.name: of.effect for of in finding.songs}
    by_id = {of.name: of.payable for of in found.songs}
    assert by_id[store.song_ids[17]] == 0
    total = found.songs[1].effect / found.songs[1].payable
    assert total < found.catalog.effect - effects[store.song_ids[17]] + 1e-9
    for of in found.songs:
        expected = 0 if refuted[store.song_ids.index(of.name)] else of.effect / total
        assert of.payable == pytest.approx(expected, rel=1e-6)
    assert found.catalog.payable == 1
    write_csv([("a.wav", report)], tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = {row["song_id"]: row["payable"] for row in csv.DictReader(file) if row["channel"] == "P"}
    listed = to_frame(report, "P").set_index("song_id")["payable"].dropna().to_dict()
    assert listed == {song_id: by_id[song_id] for song_id in cells if song_id in by_id}
    assert {song_id: float(cell) for song_id, cell in cells.items() if cell} == listed
    assert listed[store.song_ids[17]] == 0
    assert any(part > 0 for part in listed.values())
    assert sum(of.payable for of in found.parties["creator"]) == pytest.approx(1)
    told = f"The use of {counted(int(refuted.sum()), 'song')} is refuted"
    print_table(report, Console(width=400))
    assert told in (printed := capsys.readouterr().out)
    assert "payable" in printed
    page = render_html(report)
    assert told in page
    assert "Payable" in page
    assert from_json(to_json(report)) == report
    # Reports of before say nothing of it, and are read all the same.
    older = json.loads(to_json(untested))
    for group in (older["influence"]["catalog"], *older["influence"]["songs"], *older["influence"]["best"]):
        del group["payable"]
    for of in older["influence"]["parties"].values():
        for group in of:
            del group["payable"]
    read = from_json(json.dumps(older).encode())
    assert read.influence.catalog.payable is None
    # Their bytes are still canonical, so that hash and signature hold.
    assert "payable" not in to_json(read)
    assert "refuted" not in to_json(read)
    assert json.loads(to_json(read)) == older
    assert render_html(read)


def test_withdrawn_songs_are_left_out(made, snapshot: Snapshot) -> None:
    store, _, _ = made
    before = attribute(query(clip(store)), snapshot).influence

    class Withdrawn:
        def __init__(self, of: Any) -> None:
            self._of = of

        def rows(self) -> np.ndarray:
            return np.array([17])

        def __getattr__(self, name: str) -> Any:
            return getattr(self._of, name)

    found = attribute(query(clip(store)), replace(snapshot, withdrawals=Withdrawn(snapshot.withdrawals))).influence
    assert before.songs[0].name == store.song_ids[17]
    assert found.catalog.n_songs == 129
    assert store.song_ids[17] not in {of.name for of in found.songs}
    assert found.catalog.effect == pytest.approx(before.catalog.effect - before.songs[0].effect)


def _other(name: str) -> Callable[[dict], None]:
    return lambda fit: fit.update({name: "f" * 64})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_other("weights_sha256"), SpecificationMismatch, "fitted for model ffffffffffff"),
        (_other("specification_sha256"), SpecificationMismatch, "fitted for specification ffffffffffff"),
        (_other("catalog_sha256"), SpecificationMismatch, "fitted for catalog ffffffffffff"),
        (lambda fit: fit.update(method="jl"), SpecificationMismatch, "fitted for method jl, the index has influence"),
        (lambda fit: fit.update(version=1), StoreError, "effects of version 1, this software reads 4"),
        (lambda fit: fit.pop("method"), StoreError, "no effects"),
        (lambda fit: fit["kinds"]["excerpt"]["fitted"].update(noise=-1), StoreError, "no effects"),
        (lambda fit: fit["kinds"].update(captioned=fit["kinds"]["excerpt"]), UsageError, "several kinds of queries"),
        (lambda fit: fit.update(kinds={"captioned": fit["kinds"]["excerpt"]}), None, ""),
    ],
)
def test_effects_of_something_else_are_refused(
    made, tmp_path: Path, change: Callable[[dict], object], error: type[Exception] | None, message: str
) -> None:
    store, _, _ = made
    fit = fit_of(store, {"excerpt": (0.4, -0.2)})
    change(fit)
    config = IndexConfig(effects=written(fit, tmp_path))
    if error is None:
        assert load_snapshot(build_index(store, tmp_path / "index", config)).effects.query_kind == "captioned"
        return
    with pytest.raises(error, match=message):
        build_index(store, tmp_path / "index", config)
    assert not (tmp_path / "index").exists() or not list((tmp_path / "index").iterdir())


def test_files_and_kinds_that_are_not_there_are_refused(made, tmp_path: Path) -> None:
    store, _, _ = made
    with pytest.raises(StoreError, match="no effects"):
        build_index(store, tmp_path / "index", IndexConfig(effects=tmp_path / "nowhere.json"))
    file = written(fit_of(store, {"excerpt": (0.4, -0.2)}), tmp_path)
    with pytest.raises(UsageError, match="no effects on queries of kind 'guided'; it has excerpt"):
        build_index(store, tmp_path / "index", IndexConfig(effects=file, effects_kind="guided"))
    with pytest.raises(UsageError, match="give the file with --effects"):
        build_index(store, tmp_path / "index", IndexConfig(effects_kind="excerpt"))


@pytest.mark.parametrize("of", [1, 2, 7])
def test_an_index_in_parts_says_byte_for_byte_the_same(made, snapshot: Snapshot, of: int) -> None:
    store, _, folder = made
    asked = query(clip(store))
    vectors = {c: of_channel.vector for c, of_channel in asked.channels.items()}
    selected = [select(load_snapshot(folder / "index", Shard(i, i + 1, of)), vectors, 20) for i in range(of)]
    merged = together(load_snapshot(folder / "index", Shard(0, 0, of)), selected)
    report = attribute(asked, merged, top_k=20)
    assert report.influence is not None
    assert to_json(report) == to_json(attribute(asked, snapshot, top_k=20))
    # Songs that reports list are there, however few were searched for.
    few = select(snapshot, vectors, 1)
    assert few.worth is not None
    assert {song_id for song_id, _ in few.worth.best} <= set(few.songs["song_id"].to_pylist())
    # Of a part of the catalog nobody is told what the whole contributed.
    some = attribute(asked, together(load_snapshot(folder / "index", Shard(0, 0, of)), selected[:1]))
    partial = as_partial(some, [range(130 // of, 130)], 130) if of > 1 else some
    assert (partial.influence is None) == (of > 1)
    assert of == 1 or "a part of the catalog was not searched" in sentences.influence(partial)[0]
    assert select(snapshot, {"P": vectors["P"]}, 20).worth is None


def test_a_report_without_effects_is_a_report(made, snapshot: Snapshot) -> None:
    store, _, _ = made
    report = attribute(query({"P": clip(store)["P"]}), snapshot)
    assert isinstance(report, Report)
    assert report.influence is None
