"""A picture of diagnoses: how strong each axis of the scores is, and how alike groups are by aspect and size."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

from lumina_ray.diagnostics.diagnosis import Diagnosis
from lumina_ray.diagnostics.homogeneity import SIGNIFICANT_Z

matplotlib.use("Agg")


def plot_diagnoses(found: Sequence[Diagnosis], path: Path) -> None:
    """Write a PNG file with a row for each channel."""
    figure, axes = plt.subplots(len(found), 2, figsize=(10, 3.2 * len(found)), squeeze=False)
    for (left, right), one in zip(axes, found, strict=True):
        of = one.reliability
        left.bar(range(1, len(of.spectrum) + 1), of.spectrum, color="tab:blue")
        left.axhline(of.chance.r1, color="0.3", linestyle="--", linewidth=1, label="largest by chance")
        left.set_ylim(0, 1)
        left.set_title(f"{one.channel} axes of the scores; collapse {of.collapse:.2f}".strip(), fontsize=9)
        left.set_ylabel("part of the squares", fontsize=8)
        left.legend(fontsize=8)
        for number, aspect in enumerate(dict.fromkeys(row.aspect for row in one.homogeneity)):
            for residual in (False, True):
                rows = [row for row in one.homogeneity if (row.aspect, row.residual) == (aspect, residual)]
                means = [row.found.mean for row in rows]
                # Where all queries share one group, rounding may leave the mean outside an interval of no width.
                errors = [
                    [max(row.found.mean - row.found.low, 0) for row in rows],
                    [max(row.found.high - row.found.mean, 0) for row in rows],
                ]
                right.errorbar(
                    [row.size for row in rows],
                    means,
                    yerr=errors,
                    color=f"C{number}",
                    linestyle="--" if residual else "-",
                    capsize=2,
                    label=aspect + ", less first axis" * residual,
                )
        right.axhline(0, color="0.3", linewidth=0.8)
        right.axhline(SIGNIFICANT_Z, color="0.3", linestyle=":", linewidth=0.8)
        right.set_title("mean z of groups against random ones", fontsize=9)
        right.set_xlabel("songs of a group", fontsize=8)
        if one.homogeneity:
            right.legend(fontsize=7)
        else:
            right.text(0.5, 0.5, "no features given", transform=right.transAxes, ha="center", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)
