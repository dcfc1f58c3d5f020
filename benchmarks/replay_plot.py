"""Draw docs/images/replay.png: what a replay predicts of removals, and what trainings without the songs say.

    python -m benchmarks.replay_plot

Both come with the bank: derivatives in replayed.json, losses of retrained models. A dot is one training without some
songs and one scalar, the mean loss of all queries of a kind, each about its own mean over the trainings.
"""

from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from lumina_ray.errors import StoreError
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.replayed import ASKED, Replayed, Scalar, load_replayed, predicted_and_actual, removal_agreement

matplotlib.use("Agg")
_PICTURE = Path(__file__).parent.parent / "docs" / "images" / "replay.png"
_PANELS = {"single-": "one song left out", "tenth-": "a tenth left out", "half-": "half left out"}
_COLOURS = dict(zip(ASKED, ("tab:blue", "tab:green", "tab:orange"), strict=True))


def main(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank with replayed.json.")] = SHIPPED,
    out: Annotated[Path, typer.Option(help="The picture.")] = _PICTURE,
) -> None:
    """Draw predicted against actual effects, a panel for each kind of removal."""
    loaded = load_bank(bank)
    if (replayed := load_replayed(bank, loaded)) is None:
        raise StoreError(f"{bank}: has no replayed derivatives; `python -m benchmarks.replay` makes them")
    scalars = [one for kind in ASKED for one in replayed.of_kind(kind, alone=False)]
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(11, 3.7))
    for axis, (prefix, title) in zip(axes, _PANELS.items(), strict=True):
        _panel(axis, loaded, prefix, title, replayed, scalars)
    axes[0].set_ylabel("retrained without them, mnat per code")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def _panel(axis: Axes, bank: Bank, prefix: str, title: str, replayed: Replayed, scalars: list[Scalar]) -> None:
    columns, derivatives_QN = [one.queries for one in scalars], replayed.derivatives(scalars)
    predicted_RQ, actual_RQ = predicted_and_actual(bank, prefix, columns, replayed.songs, derivatives_QN)
    for q, scalar in enumerate(scalars):
        x_R, y_R = (1e3 * (of[:, q] - of[:, q].mean()) for of in (predicted_RQ, actual_RQ))
        axis.plot(x_R, y_R, "o", markersize=3, color=_COLOURS[scalar.kind], label=f"{scalar.kind}, mean of all")
    reach = 1.05e3 * float(np.abs(predicted_RQ - predicted_RQ.mean(axis=0)).max())
    axis.plot([-reach, reach], [-reach, reach], color="0.4", linewidth=0.8)
    found = removal_agreement(bank, prefix, columns, replayed.songs, derivatives_QN)
    axis.set_title(f"{title}: r {found.r:.2f}, slope {found.slope:.2f}", fontsize=10)
    axis.set_xlabel("predicted by replay, mnat per code")


if __name__ == "__main__":
    typer.run(main)
