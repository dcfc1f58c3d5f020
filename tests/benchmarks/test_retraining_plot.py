"""The README's plot is drawn from the report card in the documents."""

from pathlib import Path

from benchmarks.retraining_plot import DOCS, draw, read_rows
from lumina_ray.methods import BY_VECTORS


def test_every_method_of_the_report_card_is_read_and_drawn(tmp_path: Path) -> None:
    rows = read_rows((DOCS / "validity.md").read_text(encoding="utf-8"))
    assert {row.method for row in rows if " − " not in row.method} == {*BY_VECTORS}
    assert {row.channel for row in rows if row.method == "companion"} == {"P", "M", "P+M"}
    assert all(one.low <= one.value <= one.high for row in rows for one in row.agreement)
    draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
