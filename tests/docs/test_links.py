"""Every link of a document leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, name, prose

_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Python-Markdown make them."""
    headings = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading) for heading in _HEADING.findall(prose(page)))
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    lost = []
    for link in _LINK.finditer(prose(page)):
        if "://" in link["target"] or link["target"].startswith("mailto:"):
            continue
        path, _, anchor = link["target"].partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link["target"])
    assert lost == []


def test_every_page_can_be_reached_from_the_front() -> None:
    front = next(page for page in PAGES if name(page) == "docs/index.md")
    linked = {(front.parent / link["target"]).resolve() for link in _LINK.finditer(prose(front))}
    pages = {page for page in PAGES if page.parent == front.parent} - {front}
    # Two guides are reached through others.
    through_others = {"docs/nano.md", "docs/performance.md"}
    assert {name(page) for page in pages - linked} <= through_others
