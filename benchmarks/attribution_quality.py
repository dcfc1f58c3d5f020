"""Measure every method of attribution on a ground-truth bank: the judge of any change to a default.

    uv run --no-sync python -m benchmarks.attribution_quality

Tells dev and test apart: choose on dev (`--split dev`), report test. Writes results/quality.json and a plot.
"""

import json
import platform
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from cluster.evaluate import evaluate
from lumina_ray.methods import BY_VECTORS
from lumina_ray.truth.bank import SHIPPED, load_bank
from lumina_ray.truth.card import MUST_BEAT, Card, as_dict, save_card, shown_measures
from lumina_ray.truth.method_rows import MethodRow
from lumina_ray.truth.queries import Split
from lumina_ray.truth.tables import print_card
from lumina_ray.vocabulary import DEFAULT_METHOD

RESULTS = Path(__file__).parent / "results"
# The cost of a fingerprint is told as a ratio to that of the published system.
PUBLISHED = "stats"
# The default must be ahead of these.
RIVALS = ("influence", "head-gradient", "stats", "jl", "trak", "logra", "tokens")


def cost_ratios(card: Card) -> dict[str, float]:
    """Processor time of every method's fingerprints, as a ratio to the published statistics'."""
    seconds = {row.method: row.seconds_per_song for row in card.rows}
    return {name: value / seconds[PUBLISHED] for name, value in seconds.items()} if seconds.get(PUBLISHED) else {}


def ahead_of(rows: list[MethodRow], name: str, other: str, measure: str) -> bool:
    """Whether a method's interval lies wholly above another's, in each channel."""
    of = {(row.method, row.channel): row.measures[measure] for row in rows}
    channels = {channel for method, channel in of if method == name}
    return all(of[name, channel].low > of[other, channel].high for channel in channels)


def main(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    split: Annotated[Split, typer.Option(help="dev is for choosing.")] = "test",
) -> None:
    """Run every method on the bank."""
    begin_s = time.monotonic()
    card = evaluate(load_bank(bank), BY_VECTORS, split)
    console = Console()
    print_card(card, console, wide=True)
    ratios = cost_ratios(card)
    console.print("processor time for a song's fingerprint, ratio to the published statistics:")
    console.print(", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    ahead = {
        measure: {other: ahead_of(card.rows, DEFAULT_METHOD, other, measure) for other in RIVALS}
        for measure in shown_measures(card.rows)
        if measure in MUST_BEAT
    }
    for measure, of in ahead.items():
        verdicts = (f"{other}: {'yes' if is_ahead else 'no'}" for other, is_ahead in of.items())
        console.print(f"{measure}: is {DEFAULT_METHOD}'s interval above that of … " + ", ".join(verdicts))
    save_card(card, RESULTS / "quality")
    summary = as_dict(card) | {
        "cost_ratio": ratios,
        "default_ahead_of": ahead,
        "seconds": time.monotonic() - begin_s,
        "environment": {"torch": torch.__version__, "machine": platform.machine()},
    }
    (RESULTS / "quality.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
