"""What the Aria paper claims of its Table 1, held against the table."""

import math
from itertools import permutations

import pytest
from scipy.stats import spearmanr

from tests.diagnostics.published import TABLE_1, TABLE_2

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


def test_the_identities_leave_one_order_of_the_columns() -> None:
    """The heads of the tables are lost; 23 of 24 orders break an identity in some row."""
    rows = [*TABLE_2.values(), *(row[1:] for row in TABLE_1.values())]

    def possible(order: tuple[str, ...]) -> bool:
        for row in rows:
            of = dict(zip(order, row, strict=True))
            if of["R1"] < of["c"] - 0.001 or of["R2:5"] > min(1 - of["R1"], 4 * of["R1"]) + 0.002:
                return False
        return True

    assert [order for order in permutations(COLUMNS) if possible(order)] == [COLUMNS]
