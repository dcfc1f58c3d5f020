"""What the Aria paper claims of its Table 1, held against the table."""

import math

import pytest
from scipy.stats import spearmanr

from tests.diagnostics.published import TABLE_1

COLUMNS = ("R1", "R2:5", "c", "kappa")


@pytest.mark.parametrize(("column", "agreement"), [("R1", 1.0), ("R2:5", 0.8), ("c", 0.4), ("kappa", 1.0)])
def test_two_of_four_diagnostics_do_not_rank_methods_as_retraining_does(column: str, agreement: float) -> None:
    """The paper says that all four do."""
    lds = [row[0] for row in TABLE_1.values()]
    values = [row[1 + COLUMNS.index(column)] for row in TABLE_1.values()]
    assert spearmanr(values, [-value for value in lds]).statistic == pytest.approx(agreement)


def test_a_perfect_order_of_four_methods_is_little_evidence() -> None:
    """One of 24 orders: p = 0.042 for one column, before looking at four of them."""
    assert 1 / math.factorial(len(TABLE_1)) == pytest.approx(0.042, abs=0.001)
