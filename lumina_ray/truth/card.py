"""The report card: everything that is measured on a bank, as a file for machines and a plot for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lumina_ray.files import atomic_path
from lumina_ray.truth.agreement import Diversity
from lumina_ray.truth.alterations import ALTERATIONS
from lumina_ray.truth.false_positives import FalsePositives
from lumina_ray.truth.floors import FLOORS
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.membership import MembershipRow
from lumina_ray.truth.method_rows import MEASURES, MethodRow
from lumina_ray.truth.power import Power
from lumina_ray.truth.queries import Split
from lumina_ray.truth.scores import BOTH
from lumina_ray.truth.stability import Stability
from lumina_ray.vocabulary import DEFAULT_METHOD, Channel, Kind

MUST_BEAT = (
    "lds_excerpt",
    "lds_continuations",
    "lds_pieces_specific",
    "alone_excerpt",
    "alone_continuations",
    "alone_pieces_specific",
)
"""The measures in which the default method must beat all floors: of both channels together, on music that catalog songs
are in, by models of halves and by models that each lack one song. Music made up under few captions is alike: of it,
what is a piece's own."""


@dataclass(frozen=True)
class Card:
    """Measures of methods, policies and signals on one split of a bank.

    Attributes:
        rows: methods, each in each of its channels.
        false_positives: of every policy, by kind of fingerprint and channel.
        stability: of shares, by kind of fingerprint and channel.
        membership: one row for each signal.
        left_out: sentences that say what was not measured, and why.
        queries: by measure of agreement: how many there are, and what they are worth.
        power: how often policies name the song that a query was made of, and any song, by kind of fingerprint.
    """

    split: Split
    rows: list[MethodRow]
    false_positives: dict[Kind, dict[Channel, list[FalsePositives]]]
    stability: dict[Kind, dict[Channel, Stability]]
    membership: list[MembershipRow]
    left_out: list[str]
    queries: dict[str, Diversity] = field(default_factory=dict)
    power: dict[Kind, list[Power]] = field(default_factory=dict)


def shown_measures(rows: Sequence[MethodRow]) -> list[str]:
    """Names of the measures that rows have, in the order of `MEASURES`."""
    return [name for name in MEASURES if any(name in row.measures for row in rows)]


def floors_not_beaten(rows: Sequence[MethodRow]) -> dict[str, list[str]] | None:
    """List, by floor, the measures in which the default method is not shown to be ahead of it (`MUST_BEAT`).

    It is ahead where the paired interval of the difference lies above 0.

    Returns:
        Such as `{"base": ["lds_excerpt"]}`; None where the default method was not compared with any floor.
    """
    compared = _compared(rows)
    out: dict[str, list[str]] = {}
    for name, ahead in compared.items():
        for floor, difference in ahead.items():
            if difference.low <= 0:
                out.setdefault(floor, []).append(name)
    return out if compared else None


def has_failed(rows: Sequence[MethodRow]) -> bool:
    """Whether the default method is among the rows, and is not shown to beat every floor that it must."""
    judged = any((row.method, row.channel) == (DEFAULT_METHOD, BOTH) for row in rows)
    return judged and floors_not_beaten(rows) != {}


def _compared(rows: Sequence[MethodRow]) -> dict[str, dict[str, Estimate]]:
    """How far the default method is ahead of each floor, by the measures of `MUST_BEAT` that the bank allows."""
    judged = [row for row in rows if (row.method, row.channel) == (DEFAULT_METHOD, BOTH)]
    return {name: row.ahead[name] for row in judged for name in MUST_BEAT if row.ahead.get(name)}


def verdict(rows: Sequence[MethodRow]) -> str:
    """Say which floors the default method does not beat, and what was not compared."""
    not_beaten = floors_not_beaten(rows)
    if not_beaten is None:
        return f"{DEFAULT_METHOD}, the default, was not compared with any floor."
    missing = [name for name in MUST_BEAT if name not in _compared(rows)]
    rest = f" Not compared: {', '.join(missing)}." if missing else ""
    if not not_beaten:
        measures = ", ".join(_compared(rows))
        return f"{DEFAULT_METHOD} beats all floors in {measures}: every paired 95 % interval lies above 0.{rest}"
    floors = "; ".join(f"{floor} ({', '.join(where)})" for floor, where in not_beaten.items())
    return f"{DEFAULT_METHOD} is not shown to beat these floors (paired 95 % intervals reach 0): {floors}.{rest}"


def as_dict(card: Card) -> dict:
    """Give a card as JSON has it: `card.json`."""
    explained = {name: MEASURES[name] for name in shown_measures(card.rows)}
    return {
        "measures": explained,
        "alterations": ALTERATIONS,
        "floors": FLOORS,
        "verdict": verdict(card.rows),
        "not_beaten": floors_not_beaten(card.rows),
    } | asdict(card)


def save_card(card: Card, folder: Path) -> None:
    """Write `card.json` and `card.png`."""
    from lumina_ray.truth.plot import plot_rows

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "card.json") as temporary:
        temporary.write_text(json.dumps(as_dict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic_path(folder / "card.png") as temporary:
        plot_rows(card.rows, temporary)
