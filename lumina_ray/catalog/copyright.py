"""Debian's machine-readable copyright files (DEP-5): which licence and holder a file has."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath


@dataclass(frozen=True)
class FilesParagraph:
    """One paragraph about files.

    Attributes:
        patterns: globs of paths in the source package, in which `*` matches slashes too.
        licence: short name, such as CC-BY-SA-3.0.
        holders: who holds the copyright, without years and addresses.
    """

    patterns: tuple[str, ...]
    licence: str
    holders: tuple[str, ...]


def parse_copyright(text: str) -> list[FilesParagraph]:
    """The paragraphs about files of a DEP-5 file, in its order; empty for a file in free form."""
    if not text.lstrip().startswith("Format:"):
        return []
    paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        fields = _fields(block)
        if "files" in fields and "license" in fields:
            paragraphs.append(
                FilesParagraph(
                    patterns=tuple(" ".join(fields["files"]).split()),
                    licence=fields["license"][0],
                    holders=tuple(filter(None, map(_holder, fields.get("copyright", [])))),
                )
            )
    return paragraphs


def paragraph_of(path: str, paragraphs: list[FilesParagraph]) -> FilesParagraph | None:
    """The paragraph about an installed file.

    Patterns are about the source package, whose folders are installed under others: the beginning of the path is
    ignored, and so may be the first folder of a pattern (`data/audio/music/*`, installed as `audio/music/*`). A
    pattern that matches whole goes before one without its first folder, and both before `*`; among equals the last
    one counts, as DEP-5 has it.
    """
    parts = PurePosixPath(path).parts
    endings = ["/".join(parts[start:]) for start in range(len(parts))]
    best, best_rank = None, 0
    for paragraph in paragraphs:
        rank = max((_rank(pattern.removeprefix("./"), endings) for pattern in paragraph.patterns), default=0)
        if rank and rank >= best_rank:
            best, best_rank = paragraph, rank
    return best


def _rank(pattern: str, endings: list[str]) -> int:
    """3 if the pattern matches one of a path's endings, 2 if it does without its first folder, 1 for `*`, else 0."""
    if pattern == "*":
        return 1
    if any(fnmatchcase(ending, pattern) for ending in endings):
        return 3
    shorter = pattern.partition("/")[2]
    return 2 if "/" in shorter and any(fnmatchcase(ending, shorter) for ending in endings) else 0


def _fields(block: str) -> dict[str, list[str]]:
    """Field names in lower case → the lines of their values, stripped, empty ones left out."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in block.splitlines():
        if not line.startswith((" ", "\t")) and ":" in line:
            name, line = line.split(":", 1)
            name = name.lower()
            fields[name] = []
        if name and line.strip():
            fields[name].append(line.strip())
    return fields


def _holder(line: str) -> str:
    """`Copyright (c) 2005-2009 Ann Other <a@b.c>` → `Ann Other`."""
    line = re.sub(r"<[^>]*>|\(https?:[^)]*\)|\(www\.[^)]*\)", "", line)
    line = re.sub(r"^(copyright|\(c\)|©|[\d\s,–-]+)+", "", line.strip(), flags=re.IGNORECASE)
    return line.strip(" ,.")
