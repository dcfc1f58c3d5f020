"""A report card on paper."""

import json
from pathlib import Path

from rich.console import Console

from lumina_ray.truth.agreement import AGREED, Diversity
from lumina_ray.truth.alterations import ALTERATIONS
from lumina_ray.truth.card import Card, save_card
from lumina_ray.truth.false_positives import FalsePositives
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.membership import MembershipRow
from lumina_ray.truth.method_rows import MEASURES, MethodRow
from lumina_ray.truth.power import Power
from lumina_ray.truth.scores import BOTH, ScoredChannel
from lumina_ray.truth.stability import Stability
from lumina_ray.truth.tables import print_card


def test_a_card_says_the_same_to_people_and_machines(tmp_path: Path) -> None:
    half = Estimate(0.5, 0.25, 0.75)
    row = MethodRow(
        "influence − reference",
        "M",
        dict.fromkeys(MEASURES, half),
        dict.fromkeys(ALTERATIONS, Estimate(0.875, 0.8, 0.9)),
        4096,
        0.25,
    )
    false = FalsePositives("v8", 1000, True, Estimate(1.0, 1.0, 1.0), Estimate(159.0, 150.0, 170.0))
    steady = Stability(Estimate(0.7, 0.6, 0.8), Estimate(0.125, 0.1, 0.15))
    membership = MembershipRow(
        "log-likelihood", Estimate(0.9, 0.8, 0.95), half, half, Estimate(0.0625, 0.05, 0.2), half, half
    )
    named = [
        Power("calibrated", "altered mp3", 13, Estimate(0.8125, 0.75, 0.875), Estimate(1.0, 0.75, 1.0)),
        Power("calibrated", "outside", 40, None, Estimate(0.025, 0.0, 0.125)),
    ]
    card = Card(
        "test", [row], {"stats": {"P": [false]}}, {"jl": {"M": steady}}, [membership], ["Nothing else."],
        power={"influence": named},
    )  # fmt: skip
    save_card(card, tmp_path)
    read = json.loads((tmp_path / "card.json").read_text())
    assert read["rows"][0]["measures"]["lds_excerpt"] == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert read["false_positives"]["stats"]["P"][0]["songs"]["value"] == 159.0
    assert read["power"]["influence"][1]["own_song"] is None
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
        "0.812 [0.750, 0.875]",
        "0.025 [0.000, 0.125]",
        "0.900 [0.800, 0.950]",
        "0.062 [0.050, 0.200]",
        "Nothing else.",
    ):
        assert words in captured.get()
    # All of it is there in 80 columns too, without intervals.
    console = Console(width=80)
    with console.capture() as captured:
        print_card(card, console, wide=False)
    for words in (
        "influence − reference",
        "0.50",
        "0.88",
        "250",
        "1000 (simulated)",
        "159.00",
        "0.12",
        "0.81",
        "--wide",
    ):
        assert words in captured.get()
    assert "…" not in captured.get()
    assert max(map(len, captured.get().splitlines())) <= 80


def test_a_card_has_no_column_for_what_was_not_measured(tmp_path: Path) -> None:
    half = Estimate(0.5, 0.25, 0.75)
    measures = {name: half for name in MEASURES if name in ("lds_excerpt", "creators")}
    card = Card("test", [MethodRow("jl", "P", measures, {}, 512, 0.1)], {}, {}, [], ["Not measured: twins."])
    save_card(card, tmp_path)
    read = json.loads((tmp_path / "card.json").read_text())
    assert list(read["measures"]) == ["lds_excerpt", "creators"]
    console = Console(width=80)
    with console.capture() as captured:
        print_card(card, console, wide=False)
    assert "Not measured: twins." in captured.get()
    assert "creator" in captured.get()
    assert "cont." not in captured.get()


METHODS: tuple[tuple[str, ScoredChannel], ...] = (("companion", BOTH), ("influence − reference", "M"))


def test_agreement_comes_with_its_placebos_and_its_floors(tmp_path: Path) -> None:
    high, low = Estimate(0.25, 0.125, 0.5), Estimate(-0.03, -0.1, 0.0625)
    ahead = {"untrained": high, "reference-1": low, "base": high, "bigram": high, "tokens": high, "random": high}
    rows = [
        MethodRow(
            method,
            channel,
            dict.fromkeys(MEASURES, Estimate(0.5, 0.25, 0.75)),
            {},
            512,
            0.1,
            dict.fromkeys(AGREED, ahead),
        )
        for method, channel in METHODS
    ]
    queries = {
        "lds_excerpt": Diversity(54, 23.25, 22.5, True, True),
        "lds_captioned": Diversity(48, 5.75, 8.25, False, False),
    }
    card = Card("test", rows, {}, {}, [], ["Too few."], queries)  # type: ignore[arg-type]
    save_card(card, tmp_path)
    read = json.loads((tmp_path / "card.json").read_text())
    assert read["queries"]["lds_captioned"] == {
        "queries": 48, "effective": 5.75, "own": 8.25, "judged": False, "own_judged": False,
    }  # fmt: skip
    assert read["rows"][0]["ahead"]["lds_guided"]["tokens"]["low"] == 0.125
    assert set(read["not_beaten"]) == {"reference-1"}
    assert "reference-1 (lds_excerpt, lds_continuations, alone_excerpt, alone_continuations)" in read["verdict"]
    shown = {}
    for width, wide in ((80, False), (300, True)):
        console = Console(width=width)
        with console.capture() as captured:
            print_card(card, console, wide=wide)
        shown[wide] = captured.get()
        assert "…" not in shown[wide]
        for words in ("5.8 (too few)", "8.2 (too few)", "23.2", "reference-1", "is not shown to beat", "Too few."):
            assert words in shown[wide]
    assert max(map(len, shown[False].splitlines())) <= 80
    assert max(map(len, shown[True].split("\n\n")[0].splitlines())) <= 260
    (line,) = [line for line in shown[False].splitlines() if "influence − reference M" in line and "guided" in line]
    assert line.split()[-2:] == ["reference-1", "-0.03"]
    assert "0.250 [0.125, 0.500]" in shown[True]


def test_methods_that_were_not_asked_about_a_kind_have_no_bar_for_it(tmp_path: Path) -> None:
    half = Estimate(0.5, 0.25, 0.75)
    rows = [
        MethodRow("companion", "P", {"lds_excerpt": half, "lds_altered": half, "twins_prompted": half}, {}, 512, 0.1),
        MethodRow("random", "P", {"lds_excerpt": half}, {}, 0, 0.0),
    ]
    card = Card("test", rows, {}, {}, [], [])
    save_card(card, tmp_path)
    assert (tmp_path / "card.png").stat().st_size > 0
    console = Console(width=300)
    with console.capture() as captured:
        print_card(card, console, wide=True)
    assert "random" in captured.get()
