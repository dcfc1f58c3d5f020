"""Draw docs/images/retraining.png from the report card's table in docs/validity.md, so that both show the same numbers.

python -m benchmarks.retraining_plot
"""

import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.scores import BOTH

matplotlib.use("Agg")

DOCS = Path(__file__).parent.parent / "docs"
_ESTIMATE = re.compile(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]")
# Rows of the table begin with method, channel, and LDS on these kinds of queries.
_KINDS = ("excerpts of catalog songs", "continuations of catalog songs")


@dataclass(frozen=True)
class Row:
    """One line of the table: agreement on each of the kinds of queries."""

    method: str
    channel: str
    agreement: tuple[Estimate, ...]


def read_rows(text: str) -> list[Row]:
    """Read the table of the report card."""
    table = text[text.index("report card, on test") :].split("\n\n")[1]
    rows = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found = [_ESTIMATE.fullmatch(cell) for cell in cells[2 : 2 + len(_KINDS)]]
        if all(found):
            agreement = tuple(Estimate(*map(float, match.groups())) for match in found if match)
            rows.append(Row(cells[0].strip("`"), cells[1], agreement))
    return rows


def draw(rows: list[Row], path: Path) -> None:
    """Write a PNG file: a panel for each kind, a bar with its interval for each method, a line at `tokens`."""
    shown = [row for row in rows if row.channel == BOTH and " − " not in row.method]
    figure, axes = plt.subplots(1, len(_KINDS), figsize=(9, 4.2), sharey=True)
    for place, (axis, kind) in enumerate(zip(axes, _KINDS, strict=True)):
        values = [row.agreement[place] for row in shown]
        errors = [[one.value - one.low for one in values], [one.high - one.value for one in values]]
        axis.barh(range(len(shown)), [one.value for one in values], xerr=errors, color="tab:green", ecolor="0.3")
        for row in shown:
            if row.method == "tokens":
                axis.axvline(row.agreement[place].value, color="0.3", linestyle="--", linewidth=1)
        axis.set_title(kind, fontsize=9)
    axes[0].set_yticks(range(len(shown)), [row.method for row in shown], fontsize=8)
    axes[0].invert_yaxis()
    figure.supxlabel("LDS, P and M together; dashed: tokens, which never runs the model", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(read_rows((DOCS / "validity.md").read_text(encoding="utf-8")), DOCS / "images" / "retraining.png")
