"""The README's plot is drawn from the report card in the documents."""

from benchmarks.retraining_plot import DOCS, read_rows
from lumina_ray.methods import METHODS

# Measured in docs/unlearning.md, and in docs/fingerprints.md.
_IN_ANOTHER_TABLE = {"unlearning", "unlearning-linear", "companion"}


def test_every_method_of_the_report_card_is_read() -> None:
    rows = read_rows((DOCS / "validity.md").read_text(encoding="utf-8"))
    assert {method for method, *_ in rows if " − " not in method} == set(METHODS) - _IN_ANOTHER_TABLE
    assert ("influence", "P", 0.64, 0.58, 0.69) in rows
    assert all(low <= value <= high for _, _, value, low, high in rows)
