"""Shared notes and sound, as people read them: the same words in the terminal and on the page."""

import re
from io import StringIO

import pytest
from rich.console import Console

from lumina_ray.attribution import Report
from lumina_ray.report import from_json, print_table, render_html, to_json
from tests.report.conftest import with_shared


def printed(report: Report, width: int = 140) -> str:
    console = Console(width=width, file=StringIO(), force_terminal=False)
    print_table(report, console)
    return console.file.getvalue()


def plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.fixture(scope="module")
def shared(reports) -> Report:
    return with_shared(reports["calibrated"])


@pytest.mark.parametrize("show", [printed, lambda report: plain(render_html(report))])
def test_words_of_each_song_and_of_all(shared, reports, show):
    text = " ".join(show(shared).split())
    assert "shares notes (z 5.1, p 0.020); sound z 0.3, within chance" in text
    assert "notes z 0.3, sound z 0.3, within chance: right open" in text
    assert "nothing known of its notes and sound: right open" in text
    n = len(shared.shared.songs)
    assert f"Of {n} songs listed, 1 shares notes and 0 share sound (p ≤ 0.025 each" in text
    assert f"For the other {n - 1} the right stays open." in text
    assert "notes or sound caused the clip." in text
    assert "shares, z 5.1, p 0.020" in text
    assert "alike in harmony (z 5.9); rhythm and timbre within chance" in text
    assert "alike in nothing: harmony, rhythm and timbre within chance" in text
    assert "3.1% of cases (harmony), 2.4% of cases (rhythm), 2.0% of cases (timbre)" in text
    without = " ".join(show(reports["calibrated"]).split())
    assert "On which right a song bears stays open." in without
    assert "right open" not in without


def test_too_few_controls_leave_everything_open(shared):
    values = shared.model_dump(mode="json")
    values["shared"] |= {"n_controls": 20, "resolution": 1 / 21}
    text = " ".join(printed(Report.model_validate(values)).split())
    assert "20 controls show no p-value below 0.048, and 0.025 is asked for. Every right stays open." in text
    values["shared"] |= {"n_controls": 0, "resolution": None}
    text = " ".join(printed(Report.model_validate(values)).split())
    assert "Not judged, as the controls have no shared evidence: every right stays open." in text
    assert "notes z 5.1, sound z 0.3; not judged: right open" in text


def test_eighty_columns_are_enough(shared):
    text = printed(shared, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_canonical_json_keeps_it(shared, reports):
    assert from_json(to_json(shared)) == shared
    assert '"shared":{' in to_json(shared)
    assert '"shared"' not in to_json(reports["calibrated"])
