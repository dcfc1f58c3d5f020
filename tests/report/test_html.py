import json
import re
from html.parser import HTMLParser

import pytest

from lumina_ray.attribution import Report
from lumina_ray.attribution.partial import as_partial
from lumina_ray.report import from_json, render_html, sentences, to_json, words
from tests.report.conftest import all_qualify

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collects tags, ids, attributes and text, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for key, value in attributes if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module", params=["calibrated", "v8", "v7", "noise", "membership"])
def page(request, reports):
    text = render_html(reports[request.param])
    return reports[request.param], text, Page(text)


def test_which_of_several_streams_was_attributed(reports):
    values = reports["v8"].model_dump(mode="json")
    values["query"]["audio_stream"] = {"number": 1, "of": 2, "reason": "default"}
    shown = Page(render_html(Report.model_validate(values))).text
    assert "The query's file has 2 audio streams. Number 1 was attributed: it is marked as the default." in shown
    assert "audio streams" not in render_html(reports["v8"])


def test_is_self_contained(page):
    _, text, parsed = page
    assert not {"script", "link", "iframe", "img", "object"} & set(parsed.tags)
    for key, value in parsed.attributes:
        if key in ("href", "src", "xlink:href", "action"):
            assert value.startswith("#")
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_titles_are_text_and_nothing_else(page):
    _, text, parsed = page
    assert "<script" not in text
    assert "alert(17)" in parsed.text
    assert "夜曲" in parsed.text
    assert not any(c in text for c in "\x00\x1b\u202e")


def test_pictures_have_words_and_unique_ids(page):
    _, _, parsed = page
    assert parsed.tags.count("svg") == 4
    assert len(parsed.ids) == len(set(parsed.ids))
    labels = [value for key, value in parsed.attributes if key == "aria-label"]
    assert sum("Noise of 50 controls" in label for label in labels) == 2
    assert sum(label.startswith("Shares: ") for label in labels) == 2
    references = [value[1:] for key, value in parsed.attributes if key == "xlink:href"]
    references += [m for _, v in parsed.attributes for m in re.findall(r"url\(#([^)]+)\)", v or "")]
    assert set(references) <= set(parsed.ids)


def test_colours_come_from_the_page(page):
    _, text, _ = page
    assert "prefers-color-scheme: dark" in text
    assert "var(--accent)" in text
    assert not re.search("#0101|#0202|#0303|#0404|#0505", text)


def test_numbers_are_the_reports(page):
    report, _, parsed = page
    for channel in report.near_copies.values():
        assert sentences.verdict(report, channel) in parsed.text
        assert sentences.basis(report, channel) in parsed.text
        assert all(warning in parsed.text for warning in sentences.warnings(report, channel))
        assert f"{channel.candidates[0].similarity:.3f}" in parsed.text
    for value in (report.query.audio_sha256, report.basis.index_key, report.basis.calibration_sha256):
        assert value in parsed.text


def test_each_channel_names_the_owners_of_its_own_right(reports):
    facts = {"isrc": "DEX", "iswc": "T-1", "publisher": "<b>Pub", "master_owner": "Lab", "splits": "A 60, B 40"}
    values = json.loads(to_json(reports["calibrated"]))
    for channel in values["near_copies"].values():
        channel["candidates"][0]["song"] |= facts
    text = Page(render_html(Report.model_validate(values))).text
    assert text.count("ISWC T-1 · publisher <b>Pub · splits A 60, B 40") == 1
    assert text.count("ISRC DEX · master owner Lab · splits A 60, B 40") == 1


def test_same_report_same_page(page):
    report, text, _ = page
    assert render_html(report) == text
    assert render_html(from_json(to_json(report))) == text


def test_honest_wording(page):
    report, _, parsed = page
    assert "It is not proof that the model used a song" in parsed.text
    assert ("published, not proven" in parsed.text) == report.policy.published


@pytest.mark.parametrize("only", ["P", "M"])
def test_one_channel_is_enough_for_a_page(reports, only):
    report = reports["calibrated"]
    page = Page(render_html(report.model_copy(update={"near_copies": {only: report.near_copies[only]}})))
    assert f"Catalog {report.near_copies[only].searched} songs" in page.text


@pytest.mark.parametrize("policy", ["calibrated", "v8", "v7"])
def test_where_there_was_no_song_the_page_says_so(reports, policy):
    report = reports[f"nothing {policy}"]
    page = Page(render_html(report))
    assert page.text.count("No song was there to be compared with.") == 2
    assert "svg" not in page.tags
    assert from_json(to_json(report)) == report


def test_a_partial_report_warns(reports):
    partial = as_partial(reports["calibrated"], [range(50, 70), range(100, 130)], 130)
    assert "50 of the catalog's 130 songs were not searched" in Page(render_html(partial)).text


def test_use_is_told_where_it_is_known(page):
    report, text, parsed = page
    columns = text.count('<th class="n" scope="col">p, mem-<br>bership</th>')
    assert columns == (2 if report.basis.membership else 0)
    assert ("not that it made use of it" in parsed.text) == (report.basis.membership is not None)
    if report.basis.membership:
        assert report.basis.membership.reference_weights_sha256 in parsed.text
        top = report.near_copies["P"].candidates[0]
        assert (top.song.song_id, top.membership.p_value) == ("song-0017", 1 / 51)
        assert '<td class="n">0.020*</td>' in text


def test_the_table_holds_each_candidates_numbers(page):
    report, text, _ = page
    for name, channel in report.near_copies.items():
        table = text.split(f'aria-label="Candidates of channel {name}"')[1].split("</table>")[0]
        rows = [re.findall(r"<td.*?</td>", row, re.DOTALL) for row in table.split("<tbody>")[1].split("<tr ")[1:]]
        cells = [[" ".join(Page(cell).text.split()) for cell in row] for row in rows]
        for candidate, found in zip(channel.candidates, cells[:-1], strict=False):
            assert found[2] == words.share(candidate)
            assert found[3] == f"{candidate.similarity:.3f} ({candidate.threshold:.3f})"
            assert found[7] == words.p_value(candidate.family_wise_p, channel.noise.resolution)
            assert found[8] == words.p_value(candidate.q_value)
            if report.basis.membership:
                assert found[9] == words.membership_p(report, candidate)
        assert len(cells) == 1 + max(10, channel.qualified)
        columns = table.count('scope="col"')
        assert {len(row) for row in rows[:-1]} == {columns}
        assert f'colspan="{columns - 3}"' in table


def test_no_song_that_qualified_is_hidden(reports):
    report = all_qualify(reports["calibrated"], 12)
    text = Page(render_html(report)).text
    assert text.count("8 more candidates are in the JSON report.") == 2
    assert "more candidate" not in Page(render_html(all_qualify(report, 20))).text
    for channel in report.near_copies.values():
        assert channel.candidates[11].song.song_id in text
