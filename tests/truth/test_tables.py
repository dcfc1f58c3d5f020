"""A report card on paper."""

import json
from pathlib import Path

from rich.console import Console

from lumina_ray.truth.bank import SHIPPED, load_bank
from lumina_ray.truth.card import Card, left_out, save_card
from lumina_ray.truth.false_positives import FalsePositives
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.membership import MembershipRow
from lumina_ray.truth.method_rows import MEASURES, MethodRow
from lumina_ray.truth.stability import Stability
from lumina_ray.truth.tables import print_card


def test_a_card_says_the_same_to_people_and_machines(tmp_path: Path) -> None:
    half = Estimate(0.5, 0.25, 0.75)
    row = MethodRow(
        "influence − reference", "M", dict.fromkeys(MEASURES, half), {"mp3": Estimate(0.875, 0.8, 0.9)}, 4096, 0.25
    )
    false = FalsePositives("v8", 1000, True, Estimate(1.0, 1.0, 1.0), Estimate(159.0, 150.0, 170.0))
    steady = Stability(Estimate(0.7, 0.6, 0.8), Estimate(0.125, 0.1, 0.15))
    membership = MembershipRow("log-likelihood", Estimate(0.9, 0.8, 0.95), half, Estimate(0.0625, 0.05, 0.2))
    card = Card("test", [row], {"stats": {"P": [false]}}, {"jl": {"M": steady}}, [membership], ["Nothing else."])
    save_card(card, tmp_path)
    read = json.loads((tmp_path / "card.json").read_text())
    assert read["rows"][0]["measures"]["lds_excerpt"] == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert read["false_positives"]["stats"]["P"][0]["songs"]["value"] == 159.0
    assert set(read["measures"]) == set(MEASURES)
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")
    assert read["stability"]["jl"]["M"]["share"]["value"] == 0.7
    assert read["left_out"] == ["Nothing else."]
    console = Console(width=250)
    with console.capture() as captured:
        print_card(card, console, wide=True)
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
        "Nothing else.",
    ):
        assert words in captured.get()
    # All of it is there in 80 columns too, without intervals.
    console = Console(width=80)
    with console.capture() as captured:
        print_card(card, console, wide=False)
    for words in ("influence − reference", "0.50", "0.88", "250", "1000 (simulated)", "159.00", "0.12", "--wide"):
        assert words in captured.get()
    assert "…" not in captured.get()
    assert max(map(len, captured.get().splitlines())) <= 80


def test_a_card_of_the_shipped_bank_says_what_it_leaves_out(tmp_path: Path) -> None:
    bank = load_bank(SHIPPED)
    assert bank.unusable == ("generated", "prompted")
    (words,) = left_out(bank)
    assert "generated and prompted pieces" in words
    half = Estimate(0.5, 0.25, 0.75)
    measures = {name: half for name in MEASURES if name in ("lds_excerpt", "creators")}
    card = Card("test", [MethodRow("jl", "P", measures, {}, 512, 0.1)], {}, {}, [], left_out(bank))
    save_card(card, tmp_path)
    read = json.loads((tmp_path / "card.json").read_text())
    assert list(read["measures"]) == ["lds_excerpt", "creators"]
    console = Console(width=80)
    with console.capture() as captured:
        print_card(card, console, wide=False)
    assert "faulty sampler" in captured.get()
    assert "gener." not in captured.get()
