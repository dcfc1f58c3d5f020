"""The report card's table in docs/validity.md, from the card that lies beside the shipped bank.

python -m benchmarks.card_table
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lumina_ray.truth.scores import BOTH
from lumina_ray.truth.shipped_card import read_card

PAGE = Path(__file__).parents[1] / "docs" / "validity.md"
_PLACE = re.compile(r"(<!-- table card -->\n).*?(\n<!-- end -->)", re.DOTALL)
_MEASURES = {
    "lds_excerpt": "LDS excerpts",
    "lds_continuations": "LDS continuations",
    "alone_pieces_specific": "captioned pieces, song by song, their own",
}


def table(card: Mapping[str, Any]) -> str:
    """Draw the table: a row for each method, P and M together, with how far it is ahead of its nearest floor."""
    heads = [f"{name} | ahead of the nearest floor, by" for name in _MEASURES.values()]
    lines = ["| method | " + " | ".join(heads) + " | ms |", "|" + "---|" * (2 + 2 * len(heads))]
    for row in card["rows"]:
        if row["channel"] == BOTH:
            cells = [
                cell for measure in _MEASURES for cell in (_figure(row["measures"][measure]), _nearest(row, measure))
            ]
            lines.append(f"| `{row['method']}` | " + " | ".join(cells) + f" | {1000 * row['seconds_per_song']:.0f} |")
    return "\n".join(lines)


def with_table(text: str, card: Mapping[str, Any]) -> str:
    """Replace the table of a page's text."""
    return _PLACE.sub(lambda place: place[1] + table(card) + place[2], text)


def _nearest(row: Mapping[str, Any], measure: str) -> str:
    floors = row["ahead"][measure]
    name = min(floors, key=lambda floor: floors[floor]["low"])
    return f"{_figure(floors[name])} `{name}`"


def _figure(of: Mapping[str, float]) -> str:
    return f"{of['value']:.2f} [{of['low']:.2f}, {of['high']:.2f}]".replace("-", "−")


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), read_card()), "utf-8")
