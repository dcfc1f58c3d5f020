"""The README's plot is drawn from the card that lies beside the shipped bank."""

from pathlib import Path

from benchmarks.retraining_plot import best_floor, draw, shown_rows
from lumina_ray.methods import BY_VECTORS
from lumina_ray.truth.shipped_card import read_card


def test_every_method_of_the_report_card_is_drawn(tmp_path: Path) -> None:
    rows = shown_rows(read_card())
    assert {*BY_VECTORS} <= {row["method"] for row in rows}
    draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_floor_is_the_one_that_a_method_is_least_ahead_of() -> None:
    row = {
        "measures": {"lds_excerpt": {"value": 0.8}},
        "ahead": {"lds_excerpt": {"base": {"value": 0.1}, "bigram": {"value": 0.3}}},
    }
    assert abs(best_floor(row, "lds_excerpt") - 0.7) < 1e-12
