"""Sums are exact, and roundings add up."""

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.statement.exact import MICRO, ONE, exact_shares, micro_shares

AMOUNTS = st.lists(st.fractions(min_value=0, max_value=10**9, max_denominator=10**12), min_size=1, max_size=30)


@given(AMOUNTS, st.booleans())
def test_rounded_amounts_add_up_and_each_is_rounded_once(amounts: list[Fraction], up: bool) -> None:
    whole = sum(amounts)
    total = int(whole) + (up and whole != int(whole))
    rounded = micro_shares(amounts, total)
    assert sum(rounded) == total
    assert all(int(a) <= r <= int(a) + 1 for a, r in zip(amounts, rounded, strict=True))


@given(st.lists(st.fractions(min_value=0, max_value=4, max_denominator=30), min_size=1, max_size=5))
def test_no_other_rounding_is_nearer(amounts: list[Fraction]) -> None:
    """Hamilton's method gives the smallest sum of distances of all ways to round down or up to the total."""
    total = int(sum(amounts))

    def distance(rounded: tuple[int, ...] | list[int]) -> Fraction:
        return sum((abs(a - r) for a, r in zip(amounts, rounded, strict=True)), Fraction(0))

    ways = product(*((int(a), int(a) + 1) for a in amounts))
    best = min(distance(way) for way in ways if sum(way) == total)
    assert distance(micro_shares(amounts, total)) == best


def test_equal_remainders_go_to_the_first() -> None:
    assert micro_shares([Fraction(1, 3)] * 3, 1) == [1, 0, 0]
    with pytest.raises(ValueError, match="cannot be rounded"):
        micro_shares([Fraction(1, 3)] * 3, 4)


@given(st.lists(st.floats(2**-8, 1), min_size=1, max_size=20))
def test_shares_are_kept_exactly(shares: list[float]) -> None:
    scale = max(1.0, sum(shares) * 1.01)
    kept = [share / scale for share in shares if share / scale >= 2**-8]
    assert [Fraction(whole, ONE) for whole in exact_shares(kept)] == [Fraction(share) for share in kept]


def test_no_clip_has_more_than_one() -> None:
    third = 1 / 3 + 2**-54
    assert sum(exact_shares([third, third, third, 2**-55])) <= ONE
    assert sum(exact_shares([0.7, 0.3 + 1e-10])) == ONE
    assert ONE % MICRO != 0  # so that rounding is tested for what it is
