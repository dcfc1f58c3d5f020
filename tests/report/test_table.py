import json
from io import StringIO

import pytest
from rich.console import Console

from lumina_ray.attribution import Report
from lumina_ray.report import print_table, to_json, words
from tests.report.conftest import all_qualify


def printed(report, width: int = 140, **options) -> str:
    console = Console(width=width, file=StringIO(), force_terminal=False)
    print_table(report, console, **options)
    return console.file.getvalue()


def test_both_channels_with_shares_and_the_rest(reports):
    text = printed(reports["calibrated"])
    assert "P · Composition (publishing right)" in text
    assert "M · Production (master right)" in text
    top = reports["calibrated"].near_copies["P"].candidates[0]
    assert f"{top.share:.1%}" in text
    assert text.count("unattributed") >= 2
    assert "0:10–0:30" in text
    assert "It is not proof that the model used a song" in " ".join(text.split())
    assert "10 more candidates in the JSON" in text
    assert "query 0:40 in 4 stretches, audio" in text


def test_what_retraining_said_is_said_of_the_kind_of_fingerprint(reports):
    values = reports["calibrated"].model_dump(mode="json")
    for kind, words_of in (("companion", "a small part the audited model's own"), ("jl", "as well as the audited one")):
        values["basis"]["specification"]["kind"] = kind
        assert words_of in " ".join(printed(Report.model_validate(values)).split())
    values["basis"]["specification"] |= {"kind": "gradient", "representation": "latents"}
    said = " ".join(printed(Report.model_validate(values)).split())
    assert "no retraining has tested how much of that is the audited model's own" in said
    assert "as well as the audited one" not in said


def test_which_of_several_streams_was_attributed(reports):
    values = reports["v8"].model_dump(mode="json")
    values["query"]["audio_stream"] = {"number": 2, "of": 3, "reason": "first_with_sound"}
    text = " ".join(printed(Report.model_validate(values), 80).split())
    assert "The query's file has 3 audio streams. Number 2 was attributed: it is the first with sound." in text
    assert "audio streams" not in printed(reports["v8"])


def test_a_name_is_doubted_where_its_error_rate_may_be_higher(reports):
    values = reports["calibrated"].model_dump(mode="json")
    warnings = {
        "the warnings below say why it may be more": {"code": "controls_unlike_catalog", "auc": 0.8, "p_value": 0.01},
        "would have any song found.": {"code": "no_intervals", "qualified": 9, "limit": 8},
    }
    for said, warning in warnings.items():
        for channel in values["near_copies"].values():
            channel["warnings"] = [warning]
        assert said in " ".join(printed(Report.model_validate(values)).split())


def test_unrelated_music_reads_as_nothing(reports):
    quiet = [c for c in reports["noise"].near_copies.values() if not c.qualified]
    assert printed(reports["noise"]).count("No near copy of a catalog song found") == len(quiet) + 1 > 1


@pytest.mark.parametrize("width", [80, 140])
def test_what_shares_rest_on(reports, width):
    alone, both = printed(reports["calibrated"], width), printed(reports["membership"], width)
    assert "The shares rest on likeness alone: there is no reference model" in " ".join(alone.split())
    assert "never have seen it" not in alone
    top = next(line for line in both.splitlines() if "<script>" in line and "%" in line)
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
    assert "17 more candidates" in printed(reports["calibrated"], top=3)
    assert "1 more candidate in" in printed(reports["calibrated"], top=19)
    assert "more candidates" not in printed(reports["calibrated"], top=500)


@pytest.mark.parametrize("name", ["calibrated", "v8", "v7", "membership", "nothing v8"])
def test_eighty_columns_are_enough_and_no_cell_is_cut(reports, name):
    text = printed(reports[name], 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for channel in reports[name].near_copies.values():
        for candidate in channel.candidates[:10]:
            assert words.share(candidate) in text
            if candidate.qualified:
                told = f"{words.level(reports[name], candidate)}, "
                assert told + words.driving_times(reports[name].query.chunks, candidate) in text


def test_wide_tables_have_more_columns(reports):
    narrow, wide = (printed(reports["v7"], wide=wide) for wide in (False, True))
    for title in ("kernel", "p (family)", "driven by", "level"):
        assert title in wide
        assert title not in narrow


def owned(report: Report, **facts: str | None) -> Report:
    """The report with facts of its first songs exchanged."""
    values = json.loads(to_json(report))
    for channel in values["near_copies"].values():
        channel["candidates"][0]["song"] |= facts
    return Report.model_validate(values)


FACTS = {
    "title": "Hymn",
    "song_id": "s-1",
    "isrc": "DEX",
    "iswc": "T-1",
    "publisher": "[red]Pub",
    "master_owner": "Lab",
}


@pytest.mark.parametrize("width", [80, 140])
def test_each_channel_names_the_owners_of_its_own_right(reports, width):
    report = owned(reports["calibrated"], **FACTS, splits="A 60, B 40")
    p, m = printed(report, width).split("M · Production")
    assert "s-1 · ISWC T-1 · publisher [red]Pub" in " ".join(p.split())
    assert "s-1 · ISRC DEX · master owner Lab" in " ".join(m.split())
    assert "splits A 60, B 40" in " ".join(p.split())
    assert "splits A 60, B 40" in " ".join(m.split())
    assert "Lab" not in p
    assert "[red]Pub" not in m


def test_a_song_without_a_title_shows_its_id_once(reports):
    text = printed(owned(reports["calibrated"], **FACTS | {"title": None, "song_id": "only-id"}), top=1)
    assert text.count("only-id") == 3  # channels, and the finding


def test_no_song_that_qualified_is_hidden(reports):
    report = all_qualify(reports["calibrated"], 12)
    text = printed(report)
    assert text.count("8 more candidates in the JSON.") == 2
    assert "more candidate" not in printed(all_qualify(report, 20), top=3)
    for channel in report.near_copies.values():
        assert channel.candidates[11].song.song_id in text
