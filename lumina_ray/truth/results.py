"""A report card for people and machines: table, JSON, and plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lumina_ray.catalog.files import atomic_path
from lumina_ray.truth.alterations import ALTERATIONS
from lumina_ray.truth.card import MEASURES, Alarms, Card, Row, Steadiness, Use

_HEADINGS = {
    "lds_excerpt": "LDS excerpts",
    "lds_generated": "LDS generated",
    "creators": "LDS creators",
    "twins_prompted": "twins, continued",
    "twins_generated": "twins, free",
    "same_score": "same score",
    "same_instruments": "same instruments",
}


def tables(card: Card) -> tuple[Table, ...]:
    """Methods by measure, what they recognise, policies' false positives, how steady shares are, evidence of use.

    With 95 % intervals.
    """
    return _methods(card.rows), _found(card.rows), _alarms(card.alarms), _steadiness(card.steadiness), _use(card.use)


def as_dict(card: Card) -> dict:
    """A card as JSON has it."""
    return {"measures": MEASURES, "alterations": ALTERATIONS} | asdict(card)


def save_card(card: Card, folder: Path) -> None:
    """Write `card.json` and `card.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "card.json") as temporary:
        temporary.write_text(json.dumps(as_dict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic_path(folder / "card.png") as temporary:
        _plot(card.rows, temporary)


def _methods(rows: Sequence[Row]) -> Table:
    out = Table(box=SIMPLE_HEAD, pad_edge=False, title="Methods against retraining, twins and cells")
    out.add_column("method", no_wrap=True)
    out.add_column("")
    for name in MEASURES:
        out.add_column(_HEADINGS[name], justify="right")
    out.add_column("numbers", justify="right")
    out.add_column("ms a song", justify="right")
    for row in rows:
        values = (str(row.measures[name]) for name in MEASURES)
        out.add_row(row.method, row.channel, *values, str(row.numbers), f"{1000 * row.seconds_per_song:.0f}")
    return out


def _found(rows: Sequence[Row]) -> Table:
    out = Table(box=SIMPLE_HEAD, pad_edge=False, title="How often a song is first for an altered copy of it")
    out.add_column("method", no_wrap=True)
    out.add_column("")
    for name in ALTERATIONS.values():
        out.add_column(name, justify="right")
    for row in rows:
        if row.found:
            out.add_row(row.method, row.channel, *(str(row.found.get(name, "")) for name in ALTERATIONS))
    return out


def _alarms(alarms: Sequence[Alarms]) -> Table:
    out = Table(box=SIMPLE_HEAD, pad_edge=False, title="Policies on music that no model knows")
    for heading in ("fingerprint", "", "policy", "songs searched"):
        out.add_column(heading, justify="right" if heading == "songs searched" else "left")
    for heading in ("share of queries with any song", "songs a query"):
        out.add_column(heading, justify="right")
    for one in alarms:
        searched = f"{one.found.n_songs}" + " (simulated)" * one.found.simulated
        out.add_row(one.kind, one.channel, one.found.policy, searched, str(one.found.any_song), str(one.found.songs))
    return out


def _steadiness(found: Sequence[Steadiness]) -> Table:
    out = Table(box=SIMPLE_HEAD, pad_edge=False, title="Shares of the song that a re-encoded copy was made of")
    for heading in ("fingerprint", "", "share", "width of its interval"):
        out.add_column(heading, justify="right" if "share" in heading or "width" in heading else "left")
    for one in found:
        out.add_row(one.kind, one.channel, str(one.found.share), str(one.found.width))
    return out


def _use(found: Sequence[Use]) -> Table:
    out = Table(
        box=SIMPLE_HEAD, pad_edge=False, title="Was the model trained on it? By the song alone, without a query"
    )
    out.add_column("signal")
    for heading in ("twins", "p ≤ 0.05, trained on", "p ≤ 0.05, unheard twins and cells"):
        out.add_column(heading, justify="right")
    for one in found:
        out.add_row(one.signal, str(one.twins), str(one.trained), str(one.unheard))
    return out


def _plot(rows: Sequence[Row], path: Path) -> None:
    # Imported here: it takes a second that whoever wants numbers only need not wait.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(MEASURES), figsize=(3 * len(MEASURES), 0.28 * len(rows) + 1.2), sharey=True)
    labels = [f"{row.method} {row.channel}" for row in rows]
    for axis, name in zip(axes, MEASURES, strict=True):
        estimates = [row.measures[name] for row in rows]
        values = [estimate.value for estimate in estimates]
        errors = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
        colours = ["tab:blue" if row.channel == "P" else "tab:orange" for row in rows]
        axis.barh(range(len(rows)), values, xerr=errors, color=colours, ecolor="0.3")
        axis.axvline(0.0 if name.startswith("lds") else 0.5, color="0.3", linewidth=0.8)
        axis.set_title(_HEADINGS[name], fontsize=9)
    axes[0].set_yticks(range(len(rows)), labels, fontsize=8)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)
