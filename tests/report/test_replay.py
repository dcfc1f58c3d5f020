"""A finding by replay beside a report: songs of equal audio, ranks, sentences, and the same in every format."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lumina_ray.attribution import Report
from lumina_ray.attribution.replay import Removals, Replay, replay_finding
from lumina_ray.report import render_html
from lumina_ray.report.csv import COLUMNS, write_csv
from lumina_ray.report.replay import print_replay
from tests.report.test_html import Page

GATE = Removals(0.987, 1.07, 2, 2, (1e-6, 2e-6), (1.5e-6, 2.5e-6))
UNLEARNED = "no such song"


@pytest.fixture(scope="module")
def report(reports: dict[str, Report]) -> Report:
    """A report of which the best song in P has a copy with an id of its own, and the last one is not in the run."""
    values = reports["calibrated"].model_dump(mode="json")
    candidates = values["near_copies"]["P"]["candidates"]
    candidates[0]["equal_songs"] = [candidates[0]["song"] | {"song_id": "<copy>"}]
    candidates[-1]["song"]["song_id"] = UNLEARNED
    return Report.model_validate(values)


@pytest.fixture(scope="module")
def found(report: Report) -> Replay:
    ids = sorted({one.song.song_id for of in report.near_copies.values() for one in of.candidates} - {UNLEARNED})
    best = report.near_copies["P"].candidates[0].song.song_id
    song_ids = [best, "<copy>", *(song_id for song_id in ids if song_id != best), "never listed"]
    n = len(song_ids)
    # Alone neither copy is ahead of the others; together they are ahead of all but the last.
    first_N = np.array([3.0, 4.0, *np.linspace(0, 5, n - 3), 9.0]) * 1e-6
    effects = {"P": first_N, "M": first_N[::-1].copy()}
    return replay_finding(report, song_ids, effects, run_sha256="ab" * 32, steps=156, gate=GATE)


def test_equal_audio_is_left_out_together_and_ranked_among_the_others(report: Report, found: Replay) -> None:
    first = found.songs[0]
    assert (first.channel, first.listed_rank, first.rank) == ("P", 1, 2)
    assert first.effect_nats == pytest.approx(7e-6)
    assert found.not_learned == (UNLEARNED,)
    assert found.of("P", UNLEARNED) is None
    of_p = [song.song_id for song in found.songs if song.channel == "P"]
    assert of_p == [one.song.song_id for one in report.near_copies["P"].candidates[:-1]]
    assert found.query_codes_sha256 == report.query.codes_sha256
    assert found.to_dict()["gate"]["actual_nats"] == (1.5e-6, 2.5e-6)


def test_the_page_and_the_terminal_say_the_same(report: Report, found: Replay) -> None:
    console = Console(width=200, file=StringIO(), force_terminal=False)
    print_replay(found, console)
    told = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    page = " ".join(Page(render_html(report, replay=found)).text.split())
    for text in (told, page):
        assert "Influence by replay" in text
        assert "r 0.987 and slope 1.07; predicted 1.0, 2.0 µnat, actual 1.5, 2.5 µnat" in text
        assert f"leaving them out changes nothing: {UNLEARNED}." in text
        assert f"2 of {found.n_songs}" in text
        assert "ab" * 6 in text
    assert "ab" * 32 in page
    assert "by replay" not in render_html(report)


def test_a_table_has_columns_for_it_only_where_it_was_asked_for(report: Report, found: Replay, tmp_path: Path) -> None:
    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    write_csv([("clip", report)], tmp_path / "plain.csv")
    assert list(read(tmp_path / "plain.csv")[0]) == COLUMNS
    write_csv([("clip", report, found)], tmp_path / "replayed.csv", replayed=True)
    rows = read(tmp_path / "replayed.csv")
    assert float(rows[0]["replay_nats"]) == pytest.approx(7e-6)
    assert (rows[0]["replay_rank"], rows[0]["replay_run_sha256"]) == ("2", "ab" * 32)
    (absent,) = (row for row in rows if row["song_id"] == UNLEARNED)
    assert (float(absent["replay_nats"]), absent["replay_rank"]) == (0.0, "")
