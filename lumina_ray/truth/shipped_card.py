"""What the report card of the shipped bank says of a kind of query, in a sentence; the card lies beside the bank."""

import json
import lzma
from collections.abc import Mapping
from typing import Any

from lumina_ray.errors import StoreError
from lumina_ray.truth.agreement import POOLED
from lumina_ray.truth.bank import SHIPPED
from lumina_ray.truth.scores import BOTH
from lumina_ray.vocabulary import DEFAULT_METHOD, DEFAULT_POLICY

CARD = SHIPPED / "card.json.xz"
"""Made by `lumina evaluate --out`, on the split `test`, and packed by `xz`."""
_POOLED = {kind: name for name, kinds in POOLED.items() for kind in kinds}


def read_card() -> dict[str, Any]:
    """Read the card of the shipped bank.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        return json.loads(lzma.decompress(CARD.read_bytes()))
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise StoreError(f"{CARD}: not readable ({error}); install lumina-ray again") from error


def retraining_says(queries: str) -> str:
    """Say what the default method and policy did with queries of a kind, and what retraining says of its scores.

    Args:
        queries: as in `lumina_ray.truth.power.Power.queries`.

    Raises:
        StoreError: the card is missing or damaged, or has no such queries.
    """
    card, asked = read_card(), (DEFAULT_POLICY, queries)
    power = next((one for one in card["power"][DEFAULT_METHOD] if (one["policy"], one["queries"]) == asked), None)
    if power is None:
        raise StoreError(f"{CARD}: has no queries of the kind {queries!r}")
    own, any_song = power["own_song"], power["any_song"]
    if own is None:
        named = f"any song named for {_percent(any_song)}"
    else:
        named = f"the song behind them named for {_percent(own)}"
    told = f"Of {power['n_queries']} such queries {named}."
    kind = queries.partition(" ")[0]
    # What owes the catalog nothing has no influence that scores could agree with.
    return told if kind not in _POOLED else f"{told} {_agreement(card, _POOLED[kind])}"


def _agreement(card: Mapping[str, Any], kind: str) -> str:
    row = next(row for row in card["rows"] if (row["method"], row["channel"]) == (DEFAULT_METHOD, BOTH))
    name = f"alone_{kind}_specific"
    nearest = min(row["ahead"][name].values(), key=lambda ahead: ahead["low"])
    return (
        f"By models that each lack one song, scores agree with what it did to them, in what is a query's own, at "
        f"{_figure(row['measures'][name])}; {_figure(nearest)} of that is ahead of the nearest floor."
    )


def _percent(of: Mapping[str, float]) -> str:
    return f"{of['value']:.0%} [{of['low']:.0%}, {of['high']:.0%}]"


def _figure(of: Mapping[str, float]) -> str:
    return f"{of['value']:.2f} [{of['low']:.2f}, {of['high']:.2f}]"
