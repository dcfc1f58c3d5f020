"""Report ⇄ canonical JSON: equal reports are equal bytes, whoever writes them, and so have one hash.

The hash lies beside the report and not in it: `sha256sum` on the file gives it, which no hash could do that is part of
what it is the hash of, and the bytes stay the same wherever the report comes from.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json as parse_json

from lumina_ray.attribution import GroupEffect, InfluenceFinding, MembershipSource, Report
from lumina_ray.errors import UsageError
from lumina_ray.files import read_file

# Fields that a part of a report lacks where they are None, as their `exclude_if` says.
_ABSENT_IF_NONE: dict[type, frozenset[str]] = {
    Report: frozenset(("shared", "unsearched")),
    InfluenceFinding: frozenset(("refuted",)),
    GroupEffect: frozenset(("payable",)),
    MembershipSource: frozenset(("further_references_sha256",)),
}
_NOT_A_REPORT = "not an attribution report of this software version"


def to_json(report: Report) -> str:
    """Sorted keys, no spaces, every float in the shortest form that reads back to the same bits, one line."""
    return _CANONICAL.encode(report)


def _fields(part: object) -> dict[str, Any]:
    """The fields of a report, or of a part of it, that stand in JSON."""
    if not isinstance(part, BaseModel):
        raise TypeError(f"{type(part).__name__} has no place in a report")
    # A report that draws itself is of a class of its own.
    absent = next((names for of, names in _ABSENT_IF_NONE.items() if isinstance(part, of)), None)
    if absent is None:
        return vars(part)
    return {name: value for name, value in vars(part).items() if value is not None or name not in absent}


# Pydantic would copy the whole report first, which takes as long as writing it. No report holds itself.
_CANONICAL = json.JSONEncoder(
    default=_fields,
    sort_keys=True,
    ensure_ascii=False,
    allow_nan=False,
    check_circular=False,
    separators=(",", ":"),
)


def from_json(text: str | bytes) -> Report:
    """Read a report from JSON, the inverse of `to_json`.

    Raises:
        UsageError: not a report of this format version.
    """
    try:
        # First parsed, then validated: Pydantic's own reading of JSON copies for each error what it was found in.
        return Report.model_validate(parse_json(text, allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise UsageError(f"{_NOT_A_REPORT}: {place}{': ' if place else ''}{first['msg']}") from error
    except ValueError as error:
        raise UsageError(f"{_NOT_A_REPORT}: {error}") from error


def report_sha256(report: Report) -> str:
    """sha256 of the report's canonical JSON in UTF-8, in hexadecimal."""
    return hashlib.sha256(to_json(report).encode()).hexdigest()


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read a report file. Its bytes must be the canonical ones, as hash and signature are of those bytes.

    Raises:
        UsageError: not there, no report of this format version, or laid out anew since it was written.
    """
    try:
        data = read_file(Path(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return parse_report(data, str(path))


def parse_report(data: bytes, name: str) -> Report:
    """Parse the contents of a report file, which errors call `name`.

    Raises:
        UsageError: no report of this format version, or laid out anew since it was written.
    """
    try:
        report = from_json(data)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    if to_json(report).encode() != data:
        raise UsageError(
            f"{name}: not canonical JSON, so neither hash nor signature hold: keep the bytes that `lumina attribute "
            "--json` or the endpoint gave, without a line break at the end"
        )
    return report
