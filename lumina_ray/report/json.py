"""Report ⇄ canonical JSON: equal reports are equal bytes, whoever writes them."""

import json

from pydantic import ValidationError

from lumina_ray.attribution import Report
from lumina_ray.errors import UsageError


def to_json(report: Report) -> str:
    """Sorted keys, no spaces, every float in the shortest form that reads back to the same bits, one line."""
    return json.dumps(
        report.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def from_json(text: str) -> Report:
    """The inverse of `to_json`.

    Raises:
        UsageError: not a report of this format version.
    """
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(f"not an attribution report of this software version: {error}") from error
