"""The documents of the repository, and what is in them."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "lumina_ray/model/bundled/MODEL_CARD.md"],
)
_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4,}(?=lumina |ray |python )(?P<text>(?:.*\\\n)*.*)$", re.MULTILINE)
_INLINE = re.compile(r"`(?P<text>[^`]+)`")


def name(page: Path) -> str:
    """The page's path in the repository, which names it in a failing test."""
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCED.sub("", page.read_text("utf-8"))


def typed_lines(page: Path) -> list[str]:
    """Lines that a reader types: those of `console` blocks that begin with a dollar sign, without it."""
    blocks = (block["text"] for block in _FENCED.finditer(page.read_text("utf-8")) if block["language"] == "console")
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def code(page: Path) -> Iterator[str]:
    """Every line of code of the page, in blocks and in sentences; lines that a backslash continues are joined."""
    text = page.read_text("utf-8")
    for block in _FENCED.finditer(text):
        yield from block["text"].replace("\\\n", " ").splitlines()
    for block in _INDENTED.finditer(prose(page)):
        yield block["text"].replace("\\\n", " ")
    for span in _INLINE.finditer(prose(page)):
        yield " ".join(span["text"].split())
