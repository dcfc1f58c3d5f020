"""A bar for each method and measure of a report card, with its interval."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

from lumina_ray.truth.agreement import AGREED
from lumina_ray.truth.card import shown_measures
from lumina_ray.truth.method_rows import MethodRow
from lumina_ray.truth.scores import BOTH, ScoredChannel
from lumina_ray.truth.tables import HEADINGS

matplotlib.use("Agg")
_COLOURS: dict[ScoredChannel, str] = {"P": "tab:blue", "M": "tab:orange", BOTH: "tab:green"}


def plot_rows(rows: Sequence[MethodRow], path: Path) -> None:
    """Write a PNG file, one panel for each measure that the rows have but for placebos and single codebooks."""
    measures = [name for name in shown_measures(rows) if name in HEADINGS]
    figure, axes = plt.subplots(1, len(measures), figsize=(3 * len(measures), 0.28 * len(rows) + 1.2), sharey=True)
    labels = [f"{row.method} {row.channel}" for row in rows]
    for axis, name in zip(axes, measures, strict=True):
        # Not every method is asked about every kind of query.
        places = [n for n, row in enumerate(rows) if name in row.measures]
        estimates = [rows[n].measures[name] for n in places]
        values = [estimate.value for estimate in estimates]
        errors = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
        colours = [_COLOURS[rows[n].channel] for n in places]
        axis.barh(places, values, xerr=errors, color=colours, ecolor="0.3")
        axis.axvline(0.0 if name in AGREED else 0.5, color="0.3", linewidth=0.8)
        axis.set_title(HEADINGS[name], fontsize=9)
    axes[0].set_yticks(range(len(rows)), labels, fontsize=8)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)
