"""Reports as frames and as CSV files."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lumina_ray.attribution import Report
from lumina_ray.errors import UsageError
from lumina_ray.report import report_sha256, to_json
from lumina_ray.report.csv import COLUMNS, disarmed, write_csv
from lumina_ray.report.frame import to_frame


@pytest.mark.parametrize("name", ["calibrated", "v8", "v7", "membership", "noise", "nothing v7"])
@pytest.mark.parametrize(("channel", "owners"), [("P", ["iswc", "publisher"]), ("M", ["isrc", "master_owner"])])
def test_a_frame_has_a_row_for_each_listed_song(
    reports: dict[str, Report], name: str, channel: str, owners: list[str]
) -> None:
    frame, candidates = to_frame(reports[name], channel), reports[name].near_copies[channel].candidates  # type: ignore[index]
    assert list(frame.columns) == [
        *(
            "rank",
            "song_id",
            "equal_song_ids",
            "title",
            "creator",
            *owners,
            "splits",
            "share",
            "share_low",
            "share_high",
            "similarity",
        ),
        *("p_value", "family_wise_p", "q_value", "qualified", "membership_p", "payable"),
    ]
    assert (frame["rank"].dtype, frame["qualified"].dtype, frame["share"].dtype.kind) == (
        "int64",
        "bool",
        "fO"[not candidates],
    )
    assert list(frame["rank"]) == [c.rank for c in candidates]
    assert list(frame["song_id"]) == [c.song.song_id for c in candidates]
    assert list(frame["share"]) == [c.share for c in candidates]
    assert list(frame["share_low"].dropna()) == [c.share_low for c in candidates if c.share_low is not None]
    assert frame["membership_p"].notna().all() == (name == "membership" or not candidates)
    # None of these reports tells influence.
    assert frame["payable"].isna().all()


def test_a_channel_that_is_not_there_is_named(reports: dict[str, Report]) -> None:
    report = reports["calibrated"]
    with pytest.raises(UsageError, match="channel must be one of P, M, got 'p'"):
        to_frame(report, "p")
    alone = report.model_copy(update={"near_copies": {"M": report.near_copies["M"]}})
    with pytest.raises(UsageError, match="has no channel P, as its index holds M alone"):
        to_frame(alone, "P")


def test_a_csv_file_has_a_row_for_each_query_channel_and_song(reports: dict[str, Report], tmp_path: Path) -> None:
    named = [("a.wav", reports["calibrated"]), ("b.wav", reports["membership"])]
    write_csv(iter(named), tmp_path / "found.csv")
    frame = pd.read_csv(tmp_path / "found.csv", dtype={"title": str})
    assert list(frame.columns) == COLUMNS
    expected = [
        (name, report_sha256(report), channel, c.song.song_id, c.rank, c.share, c.similarity)
        for name, report in named
        for channel, answer in report.near_copies.items()
        for c in answer.candidates
    ]
    found = frame[["query", "report_sha256", "channel", "song_id", "rank", "share", "similarity"]]
    assert [tuple(row) for row in found.itertuples(index=False)] == expected
    assert set(frame.loc[frame["channel"] == "P", "right"]) == {"publishing"}


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n=", " =", "＝", "＋", "－", "＠", '"='])
def test_no_text_is_a_formula_and_numbers_stay_numbers(reports: dict[str, Report], tmp_path: Path, begin: str) -> None:
    values = json.loads(to_json(reports["calibrated"]))
    for channel in values["near_copies"].values():
        candidate = channel["candidates"][0]
        for field in ("song_id", "title", "creator", "isrc", "iswc", "publisher", "master_owner", "splits"):
            candidate["song"][field] = f"{begin}cmd|' /C calc'!A0,\"x\"\n{field}"
        candidate["similarity"] = -0.25
    write_csv([(f"{begin}1.wav", Report.model_validate(values))], tmp_path / "found.csv")
    assert (tmp_path / "found.csv").read_bytes().startswith(b'\xef\xbb\xbf"query",')
    with (tmp_path / "found.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        cells = [cell for name, cell in row.items() if name != "similarity"]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    first = [row for row in rows if row["rank"] == "1"]
    assert {row["similarity"] for row in first} == {"-0.25"}
    assert {row["query"] for row in rows} == {"'" + begin.replace("\n", "\n'") + "1.wav"}
    apart = begin.replace("\n", "\n'")
    assert {row["title"] for row in first} == {f"'{apart}cmd|' /C calc'!A0,\"x\"\ntitle"}
    assert [(bool(row["publisher"]), bool(row["master_owner"])) for row in first] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("text", "disarms"),
    [
        ("=1", "'=1"),
        (" =1", "' =1"),
        ("\n=1", "'\n'=1"),
        ("＝1", "'＝1"),
        ("a;=1", "'a;'=1"),
        ("a; @b", "'a; '@b"),
        ('a;"=1"', "'a;'\"=1\""),
        ("a|-1\r\n+1", "'a|'-1\r\n'+1"),
        ("a-b; c=d", "a-b; c=d"),
        ("", ""),
    ],
)
def test_a_formula_anywhere_gets_an_apostrophe(text: str, disarms: str) -> None:
    assert disarmed(text) == disarms
    assert disarmed(disarms) == disarms


@given(st.text(st.sampled_from("=+-@＝＋－＠,;|\t\r\n \u2003\"'a1")))
@example('a;""=1')
def test_no_part_of_a_text_is_a_formula_wherever_it_is_split(text: str) -> None:
    safe = disarmed(text)
    parts = [part.strip() for part in re.split(r"[,;\t|\r\n]", safe)]
    assert not [part for part in parts if part.strip('" ').startswith(tuple("=+-@＝＋－＠"))]
    assert safe == text or safe.startswith("'")
    assert re.sub("'", "", safe) == re.sub("'", "", text)


def test_all_texts_are_quoted_and_no_number_is(reports: dict[str, Report], tmp_path: Path) -> None:
    write_csv([("a.wav", reports["calibrated"])], tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(encoding="utf-8-sig", newline="") as file:
        # So read, whatever is not quoted must be a number.
        rows = list(
            csv.DictReader(
                (line.replace(",False", ",0").replace(",True", ",1") for line in file), quoting=csv.QUOTE_NONNUMERIC
            )
        )
    assert {type(row["rank"]) for row in rows} == {type(row["similarity"]) for row in rows} == {float}
    assert {type(row["song_id"]) for row in rows} == {type(row["query"]) for row in rows} == {str}
    assert {row["iswc"] for row in rows} == {""}
