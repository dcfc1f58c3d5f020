"""Reads Debian's machine-readable copyright files (DEP-5), to find the licence and the holders of a file."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath


@dataclass(frozen=True)
class FilesParagraph:
    """One paragraph about files.

    Attributes:
        patterns: globs of paths in the source package; `*` also matches slashes.
        licence: short name of the licence, such as CC-BY-SA-3.0.
        holders: names of the copyright's holders, without years and addresses.
    """

    patterns: tuple[str, ...]
    licence: str
    holders: tuple[str, ...]


def parse_copyright(text: str) -> list[FilesParagraph]:
    """Read the paragraphs about files from a DEP-5 file, in order; a file in free form has none."""
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
    """Find the paragraph about an installed file; None where no pattern matches.

    Patterns are paths in the source package, and installation moves folders. So the beginning of the file's path is
    ignored, and the first folder of a pattern may be ignored too (`data/audio/music/*`, installed as `audio/music/*`).
    A match of the whole pattern wins over a match without its first folder, and both win over `*`. Among equal matches
    the last paragraph wins, as DEP-5 says.
    """
    names = PurePosixPath(path).parts
    endings = ["/".join(names[start:]) for start in range(len(names))]
    best, best_rank = None, 0
    for paragraph in paragraphs:
        rank = max((_rank(pattern.removeprefix("./"), endings) for pattern in paragraph.patterns), default=0)
        if rank and rank >= best_rank:
            best, best_rank = paragraph, rank
    return best


def _rank(pattern: str, endings: list[str]) -> int:
    """Rank a match: 3 where the pattern matches an ending, 2 without its own first folder, 1 for `*`, 0 for none."""
    if pattern == "*":
        return 1
    if any(fnmatchcase(ending, pattern) for ending in endings):
        return 3
    shorter = pattern.partition("/")[2]
    return 2 if "/" in shorter and any(fnmatchcase(ending, shorter) for ending in endings) else 0


def _fields(block: str) -> dict[str, list[str]]:
    """Map field names, in lower case, to the lines of their values, stripped and without empty ones."""
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
    """Find the name in a line: `Ann Other` in `Copyright (c) 2005-2009 Ann Other <a@b.c>`."""
    line = re.sub(r"<[^>]*>|\(https?:[^)]*\)|\(www\.[^)]*\)", "", line)
    line = re.sub(r"^(copyright|\(c\)|©|[\d\s,–-]+)+", "", line.strip(), flags=re.IGNORECASE)
    return line.strip(" ,.")
