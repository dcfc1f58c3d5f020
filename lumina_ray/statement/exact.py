"""Exact sums of shares, and their rounding to micro-shares by the largest remainder.

A share of one clip is kept as an integer of 2⁻⁶⁰, all of a clip's as exactly 2⁶⁰ together. Sums of these are exact, in
whatever order. They are rounded once, at the end.
"""

from collections.abc import Sequence
from fractions import Fraction

ONE = 1 << 60
"""A whole clip."""

MICRO = 1_000_000
"""Micro-shares of a clip."""


def exact_shares(shares: Sequence[float]) -> list[int]:
    """Shares of one clip as integers of 2⁻⁶⁰, which together are at most `ONE`.

    A float64 of at least 2⁻⁸ is such an integer; smaller ones lose less than 2⁻⁶⁰.

    Args:
        shares: each from 0 to 1; a rounding above 1 in sum is taken off the largest.
    """
    whole = [int(share * ONE) for share in shares]
    if (excess := sum(whole) - ONE) > 0:
        largest = max(range(len(whole)), key=whole.__getitem__)
        whole[largest] -= excess
    return whole


def micro_shares(amounts: Sequence[Fraction], total: int) -> list[int]:
    """Round amounts down or up so that they add up to a total: those with the largest remainders are rounded up.

    Hamilton's method. Of equal remainders, the first is rounded up.

    Args:
        amounts: none below 0.
        total: their sum, rounded down or up to a whole number.

    Raises:
        ValueError: the total is none that rounding could give.
    """
    rounded = [int(amount) for amount in amounts]
    missing = total - sum(rounded)
    if not 0 <= missing <= len(amounts):
        raise ValueError(f"amounts that add up to {float(sum(amounts))} cannot be rounded to {total} in sum")
    by_remainder = sorted(range(len(amounts)), key=lambda i: rounded[i] - amounts[i])
    for i in by_remainder[:missing]:
        rounded[i] += 1
    return rounded
