"""Draw docs/images/retraining.png from the report card's table in docs/validity.md, so that both show the same numbers.

python -m benchmarks.retraining_plot
"""

import re
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

matplotlib.use("Agg")

DOCS = Path(__file__).parent.parent / "docs"
# Rows of the table begin with method, channel, and LDS on excerpts with its interval.
_ROW = re.compile(r"^\| `([^`]+)` \| ([PM]) \| (-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\] \|", re.M)
_COLOURS = {"P": "tab:blue", "M": "tab:orange"}


def read_rows(text: str) -> list[tuple[str, str, float, float, float]]:
    """Method, channel, agreement on excerpts and its 95 % interval, of the methods in the report card."""
    table = text[text.index("report card, on test") :].split("\n\n")[1]
    return [
        (method, channel, float(x), float(low), float(high)) for method, channel, x, low, high in _ROW.findall(table)
    ]


def draw(rows: list[tuple[str, str, float, float, float]], path: Path) -> None:
    """Write a PNG file: a bar with its interval for each method and channel, and a line at each channel of `tokens`."""
    methods = list(dict.fromkeys(method for method, *_ in rows if " − " not in method))
    figure, axis = plt.subplots(figsize=(8, 4.6))
    for method, channel, value, low, high in rows:
        if method in methods:
            y = methods.index(method) + (-0.2 if channel == "P" else 0.2)
            axis.barh(y, value, 0.38, xerr=[[value - low], [high - value]], color=_COLOURS[channel], ecolor="0.3")
        if method == "tokens":
            axis.axvline(value, color=_COLOURS[channel], linestyle="--", linewidth=1)
    axis.set_yticks(range(len(methods)), methods, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("LDS on excerpts of catalog songs; dashed: tokens, which never runs the model")
    axis.legend(
        handles=[plt.Rectangle((0, 0), 1, 1, color=colour) for colour in _COLOURS.values()],
        labels=["P, composition", "M, production"],
        fontsize=8,
    )
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(read_rows((DOCS / "validity.md").read_text(encoding="utf-8")), DOCS / "images" / "retraining.png")
