"""The tables of docs/symbolic.md, from a card: python -m benchmarks.symbolic_tables card.json"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from lumina_ray.symbolic.dattri_card import PUBLISHED

_NUMBERS = ("kappa", "r1", "r2_5", "c")


def tables(card: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown: agreement beside the paper's, how far ahead of floors, diagnostics, and the claim on them."""
    for kind in card["chance"]:
        rows = [row for row in card["rows"] if row["kind"] == kind]
        methods = [row for row in rows if row["ahead"]]
        yield f"**{kind}**\n"
        yield "| | LDS | another query's scores | the paper's LDS |\n|---|---|---|---|"
        for row in rows:
            published = PUBLISHED.get(row["name"], "")
            yield f"| `{row['name']}` | {_estimate(row['lds'])} | {_estimate(row['other'])} | {published} |"
        floors = list(methods[0]["ahead"])
        yield "\n| ahead of | " + " | ".join(floors) + " |\n|---" + "|---" * len(floors) + "|"
        for row in methods:
            yield f"| `{row['name']}` | " + " | ".join(_estimate(row["ahead"][floor]) for floor in floors) + " |"
        aspects = [of["aspect"] for of in rows[0]["homogeneity"]]
        yield "\n| | κ̄ | R1 | R2:5 | c | " + " | ".join(aspects) + " |\n|---" + "|---" * (4 + len(aspects)) + "|"
        for row in rows:
            numbers = [f"{row['found'][name]:.3f}" for name in _NUMBERS]
            z = [f"{of['found']['mean']:+.2f}" for of in row["homogeneity"]]
            yield f"| `{row['name']}` | " + " | ".join(numbers + z) + " |"
        by_chance = [f"{card['chance'][kind][name]:.3f}" for name in _NUMBERS]
        yield "| by chance | " + " | ".join(by_chance + [""] * len(aspects)) + " |"
        yield "\n| Spearman with −LDS | κ̄ | R1 | R2:5 | c |\n|---|---|---|---|---|"
        yield f"| {len(methods)} methods | " + " | ".join(f"{of:.2f}" for of in _claim(methods)) + " |\n"


def _claim(methods: list[dict[str, Any]]) -> list[float]:
    """How each diagnostic orders the methods, against −LDS."""
    against = [-row["lds"]["value"] for row in methods]
    return [float(spearmanr([row["found"][name] for row in methods], against).statistic) for name in _NUMBERS]


def _estimate(of: dict[str, float]) -> str:
    return f"{of['value']:.2f} [{of['low']:.2f}, {of['high']:.2f}]"


if __name__ == "__main__":
    print("\n".join(tables(json.loads(Path(sys.argv[1]).read_text("utf-8")))))
