"""Draw docs/images/retraining.png from the card that lies beside the shipped bank.

python -m benchmarks.retraining_plot
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt

from lumina_ray.truth.scores import BOTH
from lumina_ray.truth.shipped_card import read_card

matplotlib.use("Agg")

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "retraining.png"
_MEASURES = {
    "lds_excerpt": "excerpts of catalog songs",
    "lds_continuations": "continuations of catalog songs",
    "alone_pieces_specific": "captioned pieces, song by song, their own",
}


def shown_rows(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of the card that are drawn: every method, P and M together."""
    return [row for row in card["rows"] if row["channel"] == BOTH]


def best_floor(row: Mapping[str, Any], measure: str) -> float:
    """Agreement of the floor that agrees most."""
    ahead = min(floor["value"] for floor in row["ahead"][measure].values())
    return float(row["measures"][measure]["value"] - ahead)


def draw(rows: list[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG file: a panel for each measure; for each method a bar, its interval, and a mark at its best floor."""
    figure, axes = plt.subplots(1, len(_MEASURES), figsize=(11, 4.6), sharey=True)
    places = range(len(rows))
    for axis, (measure, title) in zip(axes, _MEASURES.items(), strict=True):
        values = [row["measures"][measure] for row in rows]
        errors = [[one["value"] - one["low"] for one in values], [one["high"] - one["value"] for one in values]]
        axis.barh(places, [one["value"] for one in values], xerr=errors, color="tab:green", ecolor="0.3")
        axis.plot([best_floor(row, measure) for row in rows], places, "k|", markersize=12, markeredgewidth=2)
        axis.set_title(title, fontsize=9)
    axes[0].set_yticks(places, [row["method"] for row in rows], fontsize=8)
    axes[0].invert_yaxis()
    figure.supxlabel(
        "agreement with retraining, P and M together; black marks: the method's best floor, which never heard a song",
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(shown_rows(read_card()), PICTURE)
