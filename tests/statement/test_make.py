"""Statements of many reports: sums, order, repeats, what may not be added up, and what is written."""

import csv
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.errors import SignatureError, StatementError, UsageError
from lumina_ray.report.sign import check_bytes, make_key, read_public_key, sign_report, signature_file
from lumina_ray.statement import reading
from lumina_ray.statement.exact import MICRO, ONE
from lumina_ray.statement.files import make_files
from lumina_ray.statement.html import render_html
from lumina_ray.statement.json import parse_statement, read_statement, statement_sha256, to_json
from lumina_ray.statement.lineage import Lineage
from lumina_ray.statement.lines import LEVELS, Clip, PayableParts, Settings, Share, SnapshotName, Song, read_clip
from lumina_ray.statement.make import for_holder, holders, make_statement
from lumina_ray.statement.parties import parts_of
from lumina_ray.statement.reading import Read
from lumina_ray.statement.schema import Statement
from lumina_ray.statement.sources import Source, find_reports
from lumina_ray.statement.verify import check_statement, verify_statement
from tests.statement.making import canonical, changed

SETTINGS = Settings(5, "a" * 64, "b" * 64, "calibrated", 0.01, 256)
SNAPSHOT = SnapshotName("v0001", "c" * 64, "d" * 64)
SONGS = [
    Song(
        f"s{i}", None, f"C{i % 2}", None, None, f"P{i % 3}", None, "A 33.33 %; B 33.33 %; C 33.34 %" if i == 4 else None
    )
    for i in range(6)
]


def clip(number: int, given: dict[str, list[tuple[int, float]]], payable: PayableParts | None = None) -> Clip:
    """A clip with shares of some of `SONGS`."""
    digest = hashlib.sha256(str(number).encode()).digest()
    channels = tuple(
        (channel, tuple(Share((SONGS[i],), share, 0.01, (share,) * LEVELS) for i, share in shares))
        for channel, shares in given.items()
    )
    return Clip(digest, digest[::-1], SETTINGS, SNAPSHOT, "", False, False, (), payable, channels)


def made(clips: list[Clip], by: str = "owner") -> Statement:
    return make_statement((Read(str(i), c, None) for i, c in enumerate(clips)), by, "2026", Lineage())


def of(reports: list[bytes], by: str = "owner") -> Statement:
    return made([read_clip(data, "r") for data in reports], by)


@st.composite
def some_clips(draw: st.DrawFn) -> list[Clip]:
    def shares() -> list[tuple[int, float]]:
        songs = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
        weights = [draw(st.floats(1e-12, 1)) for _ in songs]
        whole = max(1.0, sum(weights) / draw(st.floats(0.1, 1)))
        return [(song, weight / whole) for song, weight in zip(songs, weights, strict=True)]

    return [clip(n, {"P": shares(), "M": shares()}) for n in range(draw(st.integers(1, 8)))]


@settings(max_examples=40)
@given(some_clips(), st.sampled_from(["owner", "creator", "song"]), st.randoms())
def test_sums_are_exact_and_the_order_changes_nothing(clips: list[Clip], by: str, random: object) -> None:
    statement = made(clips, by)
    for name, channel in statement.channels.items():
        given_out = sum(line.micro_shares for line in channel.lines) + channel.unattributed
        assert given_out == channel.clips * MICRO == len(clips) * MICRO
        # Worked out once more, with fractions from the first to the last.
        exact: dict[tuple[str, ...], Fraction] = {}
        for one in clips:
            for share in dict(one.channels)[name]:
                for part in parts_of(share.songs, by, name):
                    amount = Fraction(int(share.share * ONE), ONE) * part.fraction * MICRO
                    exact[part.party.names] = exact.get(part.party.names, Fraction(0)) + amount
        for line in channel.lines:
            assert abs(line.micro_shares - exact.pop(line.names)) < 1.001
            assert sum(song.micro_shares for song in line.songs) == line.micro_shares
            assert line.low <= line.micro_shares <= line.high
        assert not exact
    shuffled = list(clips)
    random.shuffle(shuffled)
    assert to_json(made(shuffled, by)) == to_json(statement)


def test_the_line_of_nobody_is_what_the_reports_leave_unattributed(reports: list[bytes]) -> None:
    statement = of(reports)
    for name, channel in statement.channels.items():
        left = sum(json.loads(data)["near_copies"][name]["unattributed"] for data in reports)
        assert channel.unattributed == pytest.approx(left * MICRO, abs=1)
        assert channel.unattributed_low <= channel.unattributed <= channel.unattributed_high
        assert channel.clips == len(reports)
    assert set(statement.channels) == {"P", "M"}
    assert {line.kind for line in statement.channels["P"].lines} <= {"named", "unnamed"}


def test_one_clip_has_the_interval_of_its_report_and_of_the_controls(reports: list[bytes]) -> None:
    wide = 0
    for data in reports:
        candidates = json.loads(data)["near_copies"]["P"]["candidates"]
        for line in of([data], "song").channels["P"].lines:
            (candidate,) = (c for c in candidates if line.names == (c["song"]["song_id"],))
            assert line.low <= candidate["share"] * MICRO <= line.high
            if candidate["share_low"] is not None and 0.3 < candidate["share"] < 0.7:
                # The report's is by Student's t on another scale; this one holds draws of the controls, too.
                assert line.high - line.low > 0.3 * (candidate["share_high"] - candidate["share_low"]) * MICRO
                wide += 1
    assert wide > 1


def test_what_comes_twice_is_counted_once_and_said(reports: list[bytes]) -> None:
    once = of(reports)
    again = changed(reports[1], lambda values: values["basis"]["software"].update(lumina_ray="9"))
    twice = of([again, *reports, reports[0], reports[0]])
    assert (twice.reports.counted, twice.reports.same_report, twice.reports.same_audio) == (len(reports), 2, 1)
    kept, left = sorted(hashlib.sha256(data).hexdigest() for data in (again, reports[1]))
    assert [(r.report_sha256, r.counted_sha256) for r in twice.reports.repeats] == [(left, kept)]
    assert {c: x.unattributed for c, x in twice.channels.items()} == {
        c: x.unattributed for c, x in once.channels.items()
    }
    assert to_json(of([*reversed(reports), reports[0], again, reports[0]])) == to_json(twice)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (lambda v: v["basis"].update(weights_sha256="f" * 64), "model"),
        (lambda v: v["basis"].update(specification_sha256="f" * 64), "specification"),
        (lambda v: v["basis"].update(index_key="f" * 64), "catalog"),
        (lambda v: v["basis"].update(calibration_sha256="f" * 64), "calibration"),
        (lambda v: v["policy"].update(top_k=9), "top_k"),
        (lambda v: v["policy"].update(ridge=0.5), "λ"),
        (lambda v: v["near_copies"].pop("M"), "channels"),
    ],
)
def test_reports_that_do_not_belong_together_are_named(
    reports: list[bytes], tmp_path: Path, change: Callable[[dict], object], label: str
) -> None:
    (tmp_path / "a.json").write_bytes(reports[0])
    (tmp_path / "b.json").write_bytes(changed(reports[1], change))
    with pytest.raises(StatementError, match=r"cannot be added up: their") as refused:
        make_files([str(tmp_path)], None, "owner", "2026")
    assert all(name in str(refused.value) for name in ("a.json", "b.json", label))


def test_all_damaged_reports_are_named(reports: list[bytes], tmp_path: Path) -> None:
    for i, data in enumerate([*reports[:3], b"{}", b"junk"]):
        (tmp_path / f"{i}.json").write_bytes(data)
    with pytest.raises(StatementError, match=r"^2 reports cannot be added up: .*3\.json: .*4\.json: "):
        make_files([str(tmp_path)], None, "owner", "2026")
    with pytest.raises(StatementError, match="there is no report"):
        made([])


def test_processes_read_what_one_process_reads(
    reports: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, data in enumerate(reports):
        (tmp_path / "deep" / str(i % 3)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "deep" / str(i % 3) / f"{i}.json").write_bytes(data)
    lines = tmp_path / "all.ndjson"
    lines.write_bytes(b"\r\n\n".join(reports))
    one = to_json(of(reports))
    for arguments in ([str(tmp_path / "deep")], [str(lines)], [str(tmp_path / "deep" / "*" / "*.json")]):
        assert to_json(make_files(arguments, None, "owner", "2026").statement) == one
    monkeypatch.setattr(reading, "_ALONE", 8)
    monkeypatch.setattr(reading, "_BATCH", 5)
    assert to_json(make_files([str(tmp_path / "deep")], None, "owner", "2026", workers=2).statement) == one


def test_a_folder_holds_everything_and_each_holder_has_a_statement(reports: list[bytes], tmp_path: Path) -> None:
    source, out, key = tmp_path / "reports", tmp_path / "out", tmp_path / "key.pem"
    source.mkdir()
    for i, data in enumerate(reports):
        (source / f"{i}.json").write_bytes(data)
    public = make_key(key)
    statement = make_files([str(source)], out, "owner", "2026-Q3", key=key).statement
    whole = out / "statement.json"
    assert read_statement(whole) == statement
    assert hashlib.sha256(whole.read_bytes()).hexdigest() == statement_sha256(statement)
    names = holders(statement)
    written = sorted((out / "holders").glob("*.json"))
    assert len(written) == len(names) > 3
    for path, name in zip(written, names, strict=True):
        own = read_statement(path)
        assert own == for_holder(statement, name)
        assert own.whole_sha256 == statement_sha256(statement)
        assert all(name in line.names for channel in own.channels.values() for line in channel.lines)
        others = {n for n in names if n != name}
        assert not any(other in path.with_suffix(".html").read_text("utf-8") for other in others)
        assert check_bytes(path.read_bytes(), "statement", signature_file(path), read_public_key(public))
    with pytest.raises(SignatureError, match="not a signature of a report"):
        check_bytes(whole.read_bytes(), "report", signature_file(whole))
    _check_tables(statement, out)
    with pytest.raises(UsageError, match="none is overwritten"):
        make_files([str(source)], out, "owner", "2026-Q3")


def _check_tables(statement: Statement, out: Path) -> None:
    lines, songs = (pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("lines", "songs"))
    evidence = pq.read_table(out / "evidence.parquet").to_pylist()
    for name, channel in statement.channels.items():
        assert sum(row["micro_shares"] for row in lines if row["channel"] == name) == channel.clips * MICRO
        for line in channel.lines:
            label = " / ".join(line.names)
            rows = [r for r in evidence if (r["channel"], r["kind"], r["name"]) == (name, line.kind, label)]
            hashes = dict.fromkeys(r["report_sha256"] for r in rows)
            assert len(hashes) == line.evidence.reports
            digest = hashlib.sha256("".join(f"{h}\n" for h in hashes).encode()).hexdigest()
            assert digest == line.evidence.sha256
            assert sum(r["part"] for r in rows) * MICRO == pytest.approx(line.micro_shares, abs=1.001)
            of_line = [r for r in songs if (r["channel"], r["kind"], r["name"]) == (name, line.kind, label)]
            assert sum(r["micro_shares"] for r in of_line) == line.micro_shares
    audio = [row["audio_sha256"] for row in evidence]
    assert audio == sorted(audio)
    with (out / "lines.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in lines]


def test_formulas_and_markup_in_names_do_nothing(reports: list[bytes], tmp_path: Path) -> None:
    hostile = '=HYPERLINK("http://evil")<script>alert(1)</script>\u202e'

    def rename(values: dict) -> None:
        for channel in values["near_copies"].values():
            for candidate in channel["candidates"]:
                candidate["song"] |= {"publisher": hostile, "splits": None, "title": hostile, "iswc": hostile}

    (tmp_path / "r.json").write_bytes(changed(reports[1], rename))
    statement = make_files([str(tmp_path / "r.json")], tmp_path / "out", "owner", "2026").statement
    text = (tmp_path / "out" / "lines.csv").read_text("utf-8-sig")
    assert "\"'=HYPERLINK" in text
    assert '"=HYPERLINK' not in text
    for page in (render_html(statement), render_html(for_holder(statement, holders(statement)[0]))):
        assert "<script>" not in page
        assert "\u202e" not in page
        assert "@page" in page
    assert all(path.parent.name == "holders" for path in (tmp_path / "out").rglob("0000*"))


def test_signatures_of_reports_are_asked_for(reports: list[bytes], tmp_path: Path) -> None:
    public = make_key(tmp_path / "key.pem")
    folder = tmp_path / "reports"
    folder.mkdir()
    for i, data in enumerate(reports[:3]):
        (folder / f"{i}.json").write_bytes(data)
        sign_report(folder / f"{i}.json", tmp_path / "key.pem")
    signed = make_files([str(folder)], None, "owner", "2026", public_key=public).statement
    assert signed.reports.signed_by == json.loads((folder / "0.json.sig").read_text())["public_key"]
    (folder / "1.json").write_bytes(reports[5])
    with pytest.raises(StatementError, match=r"1\.json\.sig: signs report"):
        make_files([str(folder)], None, "owner", "2026", public_key=public)
    with pytest.raises(StatementError, match="signed by key"):
        make_files([str(folder / "0.json")], None, "owner", "2026", public_key=make_key(tmp_path / "other.pem"))
    with pytest.raises(UsageError, match="no signatures beside them"):
        make_files(["-"], None, "owner", "2026", public_key=public)


def test_a_statement_is_verified_from_its_reports(reports: list[bytes]) -> None:
    def reads(data: list[bytes]) -> list[Read]:
        return [Read("r", read_clip(one, "r"), None) for one in data]

    statement = of(reports)
    own = for_holder(statement, holders(statement)[0])
    for claimed in (statement, own):
        assert verify_statement(claimed, reads(reports[::-1]), Lineage()).result == "identical"
        found = verify_statement(claimed, reads(reports[1:]), Lineage())
        assert found.result == "different"
        assert "in the statement" in found.sentence
    assert check_statement(own).result is None
    foreign = own.model_copy(update={"holder": "Nobody"})
    assert verify_statement(foreign, reads(reports), Lineage()).difference.path == "/holder"


def test_a_changed_statement_does_not_add_up(reports: list[bytes]) -> None:
    data = to_json(of(reports)).encode()

    def raise_line(values: dict) -> None:
        values["channels"]["P"]["lines"][0]["micro_shares"] += 1

    def raise_rest(values: dict) -> None:
        values["channels"]["P"]["unattributed"] += 1

    for change, cause in ((raise_line, "songs of a line do not add up"), (raise_rest, "lines and rest add up to")):
        with pytest.raises(StatementError, match=cause):
            parse_statement(changed(data, change), "s")
    for other in (data + b"\n", b"{}", b"junk"):
        with pytest.raises(StatementError, match=r"^s: not "):
            parse_statement(other, "s")


def test_shared_errors_do_not_average_out() -> None:
    drawn = tuple(np.linspace(0.6, 0.4, LEVELS).tolist())
    of_one = Share((SONGS[0],), 0.5, 0.05, drawn)

    def width(n: int) -> float:
        clips = [clip(i, {"P": []})._replace(channels=(("P", (of_one,)),)) for i in range(n)]
        line = made(clips).channels["P"].lines[0]
        return (line.high - line.low) / (n * MICRO)

    assert width(1) > width(100) > 0.19
    assert width(400) == pytest.approx(0.2, abs=0.01)
    unknown = clip(1, {})._replace(channels=(("P", (of_one._replace(drawn=None, own_sd=None),)),))
    assert made([unknown]).channels["P"].lines[0].low is None


def test_arguments_that_name_nothing(tmp_path: Path) -> None:
    for argument in (str(tmp_path), str(tmp_path / "x.json"), str(tmp_path / "*.json")):
        with pytest.raises(UsageError):
            list(find_reports([argument]))


def leaves(values: object, place: tuple = ()) -> list[tuple]:
    """The places of all numbers and texts in parsed JSON."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [leaf for key, value in items for leaf in leaves(value, (*place, key))] or ([place] if not items else [])


@settings(max_examples=150)
@given(st.data())
def test_no_value_of_a_report_is_a_fault_of_the_software(reports: list[bytes], data: st.DataObject) -> None:
    """A report from outside may hold any numbers: it is added up, or refused by name."""
    values = json.loads(reports[data.draw(st.sampled_from([1, 2, 3]))])
    for channel in values["near_copies"].values():
        channel["candidates"] = [c for c in channel["candidates"] if c["share"] > 0]
        channel["noise"]["control_maxima"] = channel["noise"]["control_maxima"][
            : data.draw(st.sampled_from([0, 1, 60]))
        ]
    numbers = [place for place in leaves(values) if place[0] in ("near_copies", "policy", "query")]
    for place in data.draw(st.lists(st.sampled_from(numbers), min_size=0, max_size=3)):
        of = values
        for key in place[:-1]:
            of = of[key]
        if isinstance(of, (dict, list)) and type(of[place[-1]]) in (int, float):
            extreme = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, 0, 2**70, None, True, "0.5"])
            of[place[-1]] = data.draw(extreme | st.floats(allow_nan=False, allow_infinity=False))
    read = reading.read_source(Source("r", canonical(values)))
    statement = None
    with suppress(StatementError):
        statement = make_statement([read], "owner", "2026", Lineage())
    if statement is not None:
        parse_statement(to_json(statement).encode(), "s")
