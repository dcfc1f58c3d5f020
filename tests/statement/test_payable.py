"""What is payable of influence, added up: sums, order, names, and what a holder is given."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.errors import StatementError
from lumina_ray.statement.exact import MICRO
from lumina_ray.statement.files import make_files
from lumina_ray.statement.html import render_html
from lumina_ray.statement.json import parse_statement, to_json
from lumina_ray.statement.lines import PayableParts, read_clip
from lumina_ray.statement.make import for_holder, holders
from lumina_ray.statement.schema import Statement
from tests.statement.making import canonical, changed
from tests.statement.test_make import clip, made

NAMES = {
    "publisher": ["P0", "P1", "Elsewhere"],
    "master_owner": ["Label"],
    "creator": ["C0", "C 1"],
    "song": ["s0", "x"],
}


def parts(**of: list[tuple[str, float]]) -> PayableParts:
    return PayableParts(False, True, {by: tuple(listed) for by, listed in of.items()})


@st.composite
def some_parts(draw: st.DrawFn) -> PayableParts | None:
    def listed(names: list[str]) -> list[tuple[str, float]]:
        weights = [draw(st.floats(1e-9, 1)) for _ in names]
        return [(name, weight / max(1.0, sum(weights))) for name, weight in zip(names, weights, strict=True)]

    return draw(st.just(None) | st.builds(lambda of: parts(**of), st.just({b: listed(n) for b, n in NAMES.items()})))


def told(statement: Statement, channel: str) -> dict[tuple[str, ...], int]:
    return {line.names: line.payable for line in statement.channels[channel].lines if line.payable}


@settings(max_examples=30)
@given(st.lists(some_parts(), min_size=1, max_size=6), st.sampled_from(["owner", "creator", "song"]))
def test_sums_are_exact_and_the_order_changes_nothing(of: list[PayableParts | None], by: str) -> None:
    clips = [clip(n, {"P": [(n % 6, 0.5)], "M": []}, one) for n, one in enumerate(of)]
    statement = made(clips, by)
    assert to_json(made(clips[::-1], by)) == to_json(statement)
    parse_statement(to_json(statement).encode(), "s")
    telling = [one for one in of if one is not None]
    for name, channel in statement.channels.items():
        if not telling:
            assert channel.payable is None
            assert "payable" not in to_json(statement)
            continue
        assert channel.payable.clips == channel.payable.tested == len(telling)
        assert sum(line.payable for line in channel.lines) + channel.payable.unlisted == len(telling) * MICRO
        key = {"owner": "publisher" if name == "P" else "master_owner"}.get(by, by)
        for whose in NAMES[key]:
            expected = MICRO * sum(dict(one.parts[key])[whose] for one in telling)
            assert abs(told(statement, name).get((whose,), 0) - expected) < 1.001
        # Shares are as if there were no influence.
        alone = made([one._replace(payable=None) for one in clips], by).channels[name]
        assert {line.names: (line.micro_shares, line.low, line.high) for line in alone.lines} == {
            line.names: (line.micro_shares, line.low, line.high) for line in channel.lines if line.evidence.reports
        }


def test_a_recording_under_two_ids_and_a_name_with_other_spaces_are_one_line() -> None:
    both = clip(0, {"P": [(0, 0.5)], "M": []}, parts(song=[("s0", 0.25), ("t0", 0.125)], creator=[(" C  1", 0.5)]))
    song = both.channels[0][1][0].songs[0]
    twice = both.channels[0][1][0]._replace(songs=(song, song._replace(song_id="t0")))
    both = both._replace(channels=(("P", (twice,)), ("M", ())))
    assert told(made([both], "song"), "P") == {("s0", "t0"): 375_000}
    other = clip(1, {"P": [(1, 0.5)], "M": []}, parts(creator=[("C 1", 0.25), ("  ", 0.25)]))
    by_creator = made([both, other], "creator")
    assert told(by_creator, "P") == told(by_creator, "M") == {("C 1",): 750_000}
    assert by_creator.channels["M"].payable.unlisted == 1_250_000


def test_a_holder_sees_what_is_payable_to_it_and_no_other_name(tmp_path: Path) -> None:
    of = [parts(publisher=[("P0", 0.5), ("Elsewhere", 0.125)], master_owner=[("Label", 1.0)]), None]
    clips = [clip(n, {"P": [(0, 0.5), (1, 0.25)], "M": []}, one) for n, one in enumerate(of)]
    whole = made(clips)
    assert set(holders(whole)) == {"P0", "P1", "Elsewhere", "Label"}
    # The line of somebody of whom nothing is a near copy.
    own = for_holder(whole, "Elsewhere")
    (line,) = own.channels["P"].lines
    assert (line.micro_shares, line.payable, line.songs, line.evidence.reports) == (0, 125_000, (), 0)
    assert own.channels["P"].payable.other_lines == 500_000
    assert own.channels["M"].payable.other_lines == 1_000_000
    page = render_html(own)
    assert "P0" not in page
    for words in ("Payable, in clips", "0.125000", "0.375000", "Unlisted", "splits are not applied"):
        assert words in page
    assert "Payable" not in render_html(made([one._replace(payable=None) for one in clips]))
    for change, fault in (({"unlisted": 1}, "payable influence adds up to"), (None, "exactly where their channel has")):
        values = json.loads(to_json(whole))
        values["channels"]["P"]["payable"] = change and values["channels"]["P"]["payable"] | change
        with pytest.raises(StatementError, match=fault):
            parse_statement(canonical(values), "s")


def with_influence(report: bytes, payable: float | None) -> bytes:
    """A report that tells an influence of one owner, one creator and one song."""

    def group(name: str | None) -> dict:
        facts = {"name": name, "n_songs": 1, "song_ids": [], "effect": 0.1, "low": 0.0, "high": 0.2, "share": 0.5}
        part = {} if payable is None else {"payable": payable if name else 1.0}
        return facts | {"channels": {"M": 0.05, "P": 0.05}} | part

    finding = {"query_kind": "excerpt", "of": "output", "fit_sha256": "f" * 64, "n_models": 3, "retraining_noise": 0.1}
    parties = {"creator": [group("C")], "publisher": [group("=Pub")], "master_owner": [group("Own")]}
    finding |= {"catalog": group(None), "best": [], "parties": parties, "songs": [group("song-0001")]}
    return changed(report, lambda values: values.update(influence=finding))


def test_it_is_read_from_reports_and_stands_in_tables(reports: list[bytes], tmp_path: Path) -> None:
    read = read_clip(with_influence(reports[1], 0.25), "r").payable
    assert read == PayableParts(
        True,
        False,
        {
            b: ((n, 0.25),)
            for b, n in {"creator": "C", "publisher": "=Pub", "master_owner": "Own", "song": "song-0001"}.items()
        },
    )
    # Of a song whose use is refuted nothing is payable; older reports do not say what is.
    assert read_clip(with_influence(reports[1], 0.0), "r").payable.parts["creator"] == ()
    assert read_clip(with_influence(reports[1], None), "r").payable is None
    for wrong in (1.5, -0.25):
        with pytest.raises(StatementError, match="r: more than all influence is payable"):
            read_clip(with_influence(reports[1], wrong), "r")

    (tmp_path / "r.json").write_bytes(with_influence(reports[1], 0.25))
    statement = make_files([str(tmp_path / "r.json")], tmp_path / "out", "owner", "2026").statement
    rows = pq.read_table(tmp_path / "out" / "lines.parquet").to_pylist()
    for name, owner in (("P", "=Pub"), ("M", "Own")):
        own = {row["name"] or row["kind"]: row["payable"] for row in rows if row["channel"] == name}
        assert (own[owner], own["unlisted"], own["unattributed"]) == (250_000, 750_000, None)
        assert sum(row["micro_shares"] for row in rows if row["channel"] == name) == MICRO
    with (tmp_path / "out" / "lines.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = {row["name"]: row["payable"] for row in csv.DictReader(file)}
    assert cells["'=Pub"] == "250000"
    page = " ".join(render_html(statement).split())
    assert "In 1 of 1 report whether the model was trained on the songs was not measured" in page
    assert "of the model&#39;s output in general" in page
