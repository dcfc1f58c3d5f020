"""The table of docs/validity.md is what the card beside the shipped bank says."""

from benchmarks.card_table import PAGE, table, with_table
from lumina_ray.truth.shipped_card import read_card


def test_the_page_has_the_cards_figures() -> None:
    text = PAGE.read_text("utf-8")
    assert with_table(text, read_card()) == text
    assert table(read_card()) in text


def test_a_row_tells_the_floor_that_comes_nearest() -> None:
    def of(value: float, low: float) -> dict[str, float]:
        return {"value": value, "low": low, "high": value + 0.1}

    names = ("lds_excerpt", "lds_continuations", "alone_pieces_specific")
    row = {
        "method": "m",
        "channel": "P+M",
        "seconds_per_song": 0.0123,
        "measures": {name: of(0.5, 0.4) for name in names},
        "ahead": {name: {"near": of(0.2, -0.1), "far": of(0.1, 0.05)} for name in names},
    }
    drawn = table({"rows": [row, {**row, "channel": "P"}]}).splitlines()
    assert len(drawn) == 3
    assert drawn[2] == "| `m` | " + "0.50 [0.40, 0.60] | 0.20 [−0.10, 0.30] `near` | " * 3 + "12 |"
