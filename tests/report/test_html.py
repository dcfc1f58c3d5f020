import re
from html.parser import HTMLParser

import pytest

from lumina_ray.attribution.partial import as_partial
from lumina_ray.report import from_json, render_html, to_json

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


@pytest.fixture(scope="module", params=["calibrated", "v8", "v7", "noise", "use"])
def page(request, reports):
    text = render_html(reports[request.param])
    return reports[request.param], text, Page(text)


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
    for channel in report.channels.values():
        assert channel.verdict in parsed.text
        assert channel.basis in parsed.text
        assert all(warning in parsed.text for warning in channel.warnings)
        assert f"{channel.candidates[0].similarity:.3f}" in parsed.text
    for value in (report.query.audio_sha256, report.provenance.index_key, report.provenance.calibration_sha256):
        assert value in parsed.text


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
    page = Page(render_html(report.model_copy(update={"channels": {only: report.channels[only]}})))
    assert f"Catalog {report.channels[only].searched} songs" in page.text


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
    columns = text.count('<th class="n" scope="col">p,<br>use</th>')
    assert columns == (2 if report.provenance.use else 0)
    assert ("not that it made use of it" in parsed.text) == (report.provenance.use is not None)
    if report.provenance.use:
        assert report.provenance.use.reference_weights_sha256 in parsed.text
        top = report.channels["P"].candidates[0]
        assert (top.song.song_id, top.use.p_value) == ("song-0017", 1 / 51)
        assert '<td class="n">0.020*</td>' in text
