"""A report card on paper."""

import json
from pathlib import Path

from rich.console import Console

from lumina_ray.truth.card import MEASURES, Alarms, Card, Row, Steadiness, Use
from lumina_ray.truth.false_positives import FalsePositives
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.results import save_card, tables
from lumina_ray.truth.stability import Stability


def test_a_card_says_the_same_to_people_and_machines(tmp_path: Path) -> None:
    half = Estimate(0.5, 0.25, 0.75)
    row = Row(
        "influence − reference", "M", dict.fromkeys(MEASURES, half), {"mp3": Estimate(0.875, 0.8, 0.9)}, 4096, 0.25
    )
    alarm = Alarms(
        "stats", "P", FalsePositives("v8", 1000, True, Estimate(1.0, 1.0, 1.0), Estimate(159.0, 150.0, 170.0))
    )
    steady = Steadiness("jl", "M", Stability(Estimate(0.7, 0.6, 0.8), Estimate(0.125, 0.1, 0.15)))
    use = Use("log-likelihood", Estimate(0.9, 0.8, 0.95), half, Estimate(0.0625, 0.05, 0.2))
    card = Card("test", [row], [alarm], [steady], [use])
    save_card(card, tmp_path)
    read = json.loads((tmp_path / "card.json").read_text())
    assert read["rows"][0]["measures"]["lds_excerpt"] == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert read["alarms"][0]["found"]["songs"]["value"] == 159.0
    assert set(read["measures"]) == set(MEASURES)
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")
    console = Console(width=250)
    with console.capture() as captured:
        console.print(*tables(card))
    for words in (
        "influence − reference",
        "0.500 [0.250, 0.750]",
        "0.875 [0.800, 0.900]",
        "4096",
        "250",
        "1000 (simulated)",
        "159.000 [150",
        "0.125 [0.100, 0.150]",
        "0.900 [0.800, 0.950]",
        "0.062 [0.050, 0.200]",
    ):
        assert words in captured.get()
