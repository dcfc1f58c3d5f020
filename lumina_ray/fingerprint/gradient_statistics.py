"""The six statistics of a gradient tensor (LUMINA v8), in float64."""

from collections.abc import Sequence

STATISTIC_NAMES = ("mean", "std", "l2", "max", "min", "skewness")
# A central second moment below this fraction of the sum of squares is zero, up to rounding.
_NO_SPREAD = 1e-13


def six_statistics(moments: Sequence[float], n: int, *, zero_mean: bool) -> list[float]:
    """Mean, standard deviation (unbiased), L2 norm, maximum, minimum and skewness of one tensor.

    Skewness is `m₃ / m₂^1.5` of the population. A constant tensor gets 0 instead of 0/0.

    Args:
        moments: Σx, Σx², Σx³, maximum and minimum (`lumina_ray.gradients.moments`).
        n: number of the tensor's elements.
        zero_mean: whether the mean is zero by construction, because the tensor writes into the residual stream of a
            pre-norm network. Then a computed mean is rounding noise, and 0 is returned in its place.

    Returns:
        Six floats in the order of `STATISTIC_NAMES`.
    """
    first, second, third, maximum, minimum = moments
    mean = first / n
    m2 = second - n * mean**2
    if m2 <= _NO_SPREAD * second:
        std = skewness = 0.0
    else:
        m3 = third - 3 * mean * second + 2 * n * mean**3
        std = (m2 / max(n - 1, 1)) ** 0.5
        skewness = (m3 / n) / (m2 / n) ** 1.5
    return [0.0 if zero_mean else mean, std, second**0.5, maximum, minimum, skewness]
