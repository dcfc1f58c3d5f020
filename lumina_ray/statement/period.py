"""The period that a statement is for. Reports have no date: it is what whoever makes the statement says."""

import re
from datetime import date

from lumina_ray.errors import UsageError

_YEAR_QUARTER_MONTH = re.compile(r"[0-9]{4}(?:-Q[1-4]|-(?:0[1-9]|1[0-2]))?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def check_period(text: str) -> str:
    """Check a period: a year, quarter, month, day, or two days with a slash between them (ISO 8601).

    Returns:
        The text itself.

    Raises:
        UsageError: it is none.
    """
    if _YEAR_QUARTER_MONTH.fullmatch(text):
        return text
    days = text.split("/")
    try:
        if len(days) <= 2 and all(map(_DAY.fullmatch, days)):
            dates = [date.fromisoformat(day) for day in days]
            if dates == sorted(dates):
                return text
    except ValueError:
        pass
    raise UsageError(
        f"{text[:40]!r} is no period: write 2026, 2026-Q3, 2026-09, 2026-09-30, or 2026-07-01/2026-09-30, the earlier "
        "day first"
    )
