"""What counts as the same report, and which snapshot and songs it is computed from again."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.attribution import Report, attribute
from lumina_ray.attribution.partial import as_partial
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.errors import ReportMismatch
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.index.withdrawn import WITHDRAWN_FILE
from lumina_ray.report import to_json
from lumina_ray.report.verify import (
    TOLERANCE,
    as_searched,
    compare,
    differences,
    reported_folder,
    verify_query,
    verify_report,
)
from tests.calibration.synthetic import demo_stores, query

SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0, 0.5, "", "1", "None"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner, max_size=3)
)


@given(VALUES, VALUES)
def test_there_is_a_difference_exactly_where_the_bytes_differ(a: object, b: object) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (not list(differences(a, b))) == same
    assert not list(differences(a, a))


def test_a_difference_is_pointed_at() -> None:
    a, b = {"x/y": [1, {"z": 2.0}], "w": [1]}, {"x/y": [1, {"z": 2.5}], "w": [1, 2]}
    assert [(d.path, d.report, d.recomputed) for d in differences(a, b)] == [
        ("/w", "a list of 1", "a list of 2"),
        ("/x~1y/1/z", 2.0, 2.5),
    ]


def changed(report: Report, *steps: str | int, to: object) -> Report:
    """The report with one value exchanged; `to` may be a function of it."""
    values = json.loads(to_json(report))
    inner = values
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = to(inner[steps[-1]]) if callable(to) else to
    return Report.model_validate(values)


def elsewhere(report: Report) -> Report:
    return changed(report, "basis", "environment", "device", to="another device")


SHARE = ("near_copies", "P", "candidates", 0, "share")


def test_in_the_same_environment_the_last_bit_counts(reports: dict[str, Report]) -> None:
    report = reports["calibrated"]
    assert compare(report, report).result == "identical"
    found = compare(changed(report, *SHARE, to=lambda x: float(np.nextafter(x, 0))), report)
    assert found.result == "different"
    assert found.difference is not None
    assert found.difference.path == "/" + "/".join(map(str, SHARE))
    assert found.difference.recomputed == report.near_copies["P"].candidates[0].share
    assert "/near_copies/P/candidates/0/share is 0." in found.sentence


@pytest.mark.parametrize(
    ("steps", "to", "result"),
    [
        (SHARE, lambda x: x + 0.9 * TOLERANCE, "close"),
        (SHARE, lambda x: x + 1.1 * TOLERANCE, "different"),
        (("near_copies", "P", "candidates", 0, "z"), lambda z: z * (1 + 0.9 * TOLERANCE), "close"),
        (("near_copies", "P", "candidates", 0, "rank"), 2, "different"),
        (("near_copies", "P", "candidates", 0, "song", "title"), "Another", "different"),
        (("near_copies", "P", "candidates", 0, "qualified"), False, "different"),
        (("near_copies", "P", "candidates"), lambda candidates: candidates[:-1], "different"),
        (("near_copies", "P", "subject"), "production", "different"),
        (("query", "codes_sha256"), "d" * 64, "different"),
    ],
)
def test_elsewhere_numbers_may_be_a_little_off_and_nothing_else(
    reports: dict[str, Report], steps: tuple, to: object, result: str
) -> None:
    report = reports["calibrated"]
    found = compare(changed(report, *steps, to=to), elsewhere(report))
    assert found.result == result
    assert [d.path for d in found.environment] == ["/basis/environment/device"]
    assert "identical" not in found.sentence.replace("not identical", "")
    assert "another device" in found.sentence


def test_what_all_else_follows_from_is_named_first(reports: dict[str, Report]) -> None:
    report = reports["calibrated"]
    found = compare(changed(changed(report, *SHARE, to=0.5), "query", "codes_sha256", to="d" * 64), elsewhere(report))
    assert found.difference is not None
    assert found.difference.path == "/query/codes_sha256"
    assert "proves no change" in found.sentence


@pytest.mark.parametrize(
    ("name", "step", "to", "result"),
    [
        ("v8", "expected_false_positives", lambda x: x * (1 + 0.9 * TOLERANCE), "close"),
        ("v8", "expected_false_positives", lambda x: x * (1 + 3 * TOLERANCE), "different"),
        ("v8", "expected_false_positives", lambda x: 10 * x, "different"),
        ("v8", "searched", lambda x: x + 1, "different"),
        ("v8", "code", "nearest_only", "different"),
    ],
)
def test_elsewhere_numbers_of_warnings_may_be_off_as_all_others(
    reports: dict[str, Report], name: str, step: str, to: object, result: str
) -> None:
    report = reports[name]
    path = ("near_copies", "P", "warnings", 0)
    if step == "code":
        other = changed(report, *path, to={"code": to, "judged": 5, "searched": 130})
    else:
        other = changed(report, *path, step, to=to)
    assert compare(other, elsewhere(report)).result == result


@pytest.fixture
def living(tmp_path: Path) -> tuple[Path, Report]:
    """An index that says it was built from generation 1 of a catalog, and a report made then."""
    store, controls, worlds = demo_stores(tmp_path)
    write_calibration(calibrate_store(store, controls), store.path)
    manifest = build_index(store, tmp_path / "index") / "manifest.json"
    assert isinstance(manifest, Path)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"generation": 1}))
    withdraw(tmp_path / "index")
    q = query({c: worlds[c].music(1)[0] for c in worlds})
    return tmp_path / "index", attribute(q, load_snapshot(tmp_path / "index"))


def withdraw(index: Path, *songs: tuple[int, int]) -> None:
    """Withdraw songs by number, each in a generation."""
    listed = [(f"song-{song:04d}", f"song{song}", since) for song, since in songs]
    (index / WITHDRAWN_FILE).write_text(json.dumps({"songs": listed}))


def test_songs_that_were_withdrawn_since_are_searched_as_they_were(living: tuple[Path, Report]) -> None:
    index, report = living
    # Song 3 is gone from generation 2 on, song 5 from generation 4 on; song 7 left before the snapshot was built.
    withdraw(index, (3, 2), (5, 4), (7, 1))
    now = load_snapshot(index)
    assert now.n_present == 128
    assert as_searched(now, report).n_present == 130
    for n_searched, gone in ((130, []), (129, [3]), (128, [3, 5])):
        then = as_searched(now, changed(report, "near_copies", "P", "searched", to=n_searched))
        assert then.withdrawals.rows().tolist() == gone
    # A report that claims what never was is compared with what is.
    assert as_searched(now, changed(report, "near_copies", "P", "searched", to=12)) is now
    assert now.n_present == 128


def test_the_snapshot_is_the_one_that_the_report_names(living: tuple[Path, Report]) -> None:
    index, report = living
    assert reported_folder(index, report) == reported_folder(index / "v0001", report) == index / "v0001"
    for name in ("v0002", "../index/v0001", "."):
        with pytest.raises(ReportMismatch, match="does not hold snapshot"):
            reported_folder(index, changed(report, "basis", "index_version", to=name))
    with pytest.raises(ReportMismatch, match="does not hold snapshot"):
        reported_folder(index.with_name("nowhere"), report)
    for name in ("index_key", "calibration_sha256"):
        with pytest.raises(ReportMismatch, match="not what the report was made from: v0001"):
            reported_folder(index, changed(report, "basis", name, to="e" * 64))


def test_which_snapshot_a_report_names_is_told_without_its_songs(
    living: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, report = living

    def refuse(*_: object) -> None:
        raise AssertionError

    for reads in ("pq.read_table", "pq.ParquetFile", "sha256_of"):
        monkeypatch.setattr(f"lumina_ray.index.snapshot.{reads}", refuse)
    assert reported_folder(index, report) == index / "v0001"


def test_a_report_on_a_part_of_the_catalog_is_not_computed_again(living: tuple[Path, Report]) -> None:
    index, report = living
    asked = query({c: load_snapshot(index).vectors(c, np.array([0]))[0] for c in report.near_copies})
    assert verify_query(report, asked, load_snapshot(index)).result == "different"
    with pytest.raises(ReportMismatch, match="a part of the catalog"):
        verify_query(as_partial(report, [range(3)], 130), asked, load_snapshot(index))


def test_a_path_may_be_a_text(living: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    index, report = living
    asked = query({c: load_snapshot(index).vectors(c, np.array([0]))[0] for c in report.near_copies})
    opened: list[Path] = []

    def load(path: Path) -> SimpleNamespace:
        opened.append(path)
        return SimpleNamespace(sha256=report.query.audio_sha256 if path.name == "query.wav" else "f" * 64)

    monkeypatch.setattr("lumina_ray.audio.load_chunks", load)
    monkeypatch.setattr("lumina_ray.attribution.fingerprinter.open_fingerprinter", lambda *_: None)
    monkeypatch.setattr("lumina_ray.fingerprint.fingerprint_query", lambda *_: asked)
    audio = tmp_path / "query.wav"
    found = verify_report(report, audio, index)
    assert found == verify_query(report, asked, load_snapshot(index))
    assert verify_report(report, str(audio), str(index)) == verify_report(report, str(audio), f"{index}/v0001") == found
    assert opened == [audio] * 3
    with pytest.raises(ReportMismatch, match="another file, or another encoding"):
        verify_report(report, str(tmp_path / "other.wav"), str(index))
