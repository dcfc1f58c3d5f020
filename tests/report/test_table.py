from io import StringIO

import pytest
from rich.console import Console

from lumina_ray.report import print_table


def printed(report, width: int = 140, **options) -> str:
    console = Console(width=width, file=StringIO(), force_terminal=False)
    print_table(report, console, **options)
    return console.file.getvalue()


def test_both_channels_with_shares_and_the_rest(reports):
    text = printed(reports["calibrated"])
    assert "P · Composition (publishing right)" in text
    assert "M · Production (master right)" in text
    top = reports["calibrated"].channels["P"].candidates[0]
    assert f"{top.share:.1%}" in text
    assert text.count("unattributed") >= 2
    assert "0:10–0:30" in text
    assert "It is not proof that the model used a song" in " ".join(text.split())
    assert "120 more candidates in the JSON" in text


def test_unrelated_music_reads_as_nothing(reports):
    quiet = [c for c in reports["noise"].channels.values() if not c.qualified]
    assert printed(reports["noise"]).count("Nothing is attributed.") == len(quiet) > 0


@pytest.mark.parametrize("width", [80, 140])
def test_what_shares_rest_on(reports, width):
    alone, both = printed(reports["calibrated"], width), printed(reports["use"], width)
    assert "The shares rest on likeness alone: there is no reference model" in " ".join(alone.split())
    assert "never have seen it" not in alone
    top = next(line for line in both.splitlines() if "<script>" in line)
    assert top.count("0.020*") == 2
    assert "on evidence that the model was trained on it (p ≤ 0.05 by 50 controls" in " ".join(both.split())
    assert max(map(len, both.splitlines())) <= width


@pytest.mark.parametrize("policy", ["v8", "v7"])
def test_published_rules_are_called_published(reports, policy):
    text = printed(reports[policy])
    assert f"{policy} (published, not proven)" in text
    assert "not corrected for the 130 songs searched" in text
    assert {"v8": "“Definitive Proof”", "v7": "“Qualified”"}[policy] in text


@pytest.mark.parametrize("width", [80, 140])
def test_titles_cannot_steer_the_terminal(reports, width):
    text = printed(reports["calibrated"], width)
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "[bold]" in text.replace("\n", "") or width == 80
    assert max(map(len, text.splitlines())) <= width


def test_as_many_rows_as_asked_for(reports):
    assert "127 more candidates" in printed(reports["calibrated"], top=3)
    assert "more candidates" not in printed(reports["calibrated"], top=500)
