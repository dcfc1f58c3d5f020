"""The report card: everything that is measured on a bank, as a file for machines and a plot for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lumina_ray.files import atomic_path
from lumina_ray.truth.alterations import ALTERATIONS
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.false_positives import FalsePositives
from lumina_ray.truth.membership import MembershipRow
from lumina_ray.truth.method_rows import MEASURES, MethodRow
from lumina_ray.truth.queries import Split
from lumina_ray.truth.stability import Stability
from lumina_ray.vocabulary import Channel, Kind


@dataclass(frozen=True)
class Card:
    """Measures of methods, policies and signals on one split of a bank.

    Attributes:
        rows: methods, each in each of its channels.
        false_positives: of every policy, by kind of fingerprint and channel.
        stability: of shares, by kind of fingerprint and channel.
        membership: one row for each signal.
        left_out: sentences that say what was not measured, and why.
    """

    split: Split
    rows: list[MethodRow]
    false_positives: dict[Kind, dict[Channel, list[FalsePositives]]]
    stability: dict[Kind, dict[Channel, Stability]]
    membership: list[MembershipRow]
    left_out: list[str]


def left_out(bank: Bank) -> list[str]:
    """Say what cannot be measured on a bank."""
    if not bank.unusable:
        return []
    return [
        f"Not measured: {' and '.join(bank.unusable)} pieces of this bank, which a faulty sampler made. "
        "`lumina truth build` makes a bank with sound ones."
    ]


def shown_measures(rows: Sequence[MethodRow]) -> list[str]:
    """Names of the measures that rows have, in the order of `MEASURES`."""
    return [name for name in MEASURES if any(name in row.measures for row in rows)]


def as_dict(card: Card) -> dict:
    """Give a card as JSON has it: `card.json`."""
    explained = {name: MEASURES[name] for name in shown_measures(card.rows)}
    return {"measures": explained, "alterations": ALTERATIONS} | asdict(card)


def save_card(card: Card, folder: Path) -> None:
    """Write `card.json` and `card.png`."""
    from lumina_ray.truth.plot import plot_rows

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "card.json") as temporary:
        temporary.write_text(json.dumps(as_dict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic_path(folder / "card.png") as temporary:
        plot_rows(card.rows, temporary)
