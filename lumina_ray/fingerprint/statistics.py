"""The six statistics of a gradient tensor (LUMINA v8, DESIGN §1.3), in float64."""

from collections.abc import Sequence

STATISTICS = ("mean", "std", "l2", "max", "min", "skewness")
# Below it, relative to the sum of squares, a central second moment is what rounding leaves of zero.
_NO_SPREAD = 1e-13


def statistics_of(moments: Sequence[float], n: int, *, zero_mean: bool) -> list[float]:
    """Mean, standard deviation (unbiased), L2 norm, maximum, minimum and skewness of one tensor.

    Skewness is `m₃ / m₂^1.5` of the population; of a constant tensor it is 0, not 0/0.

    Args:
        moments: Σx, Σx², Σx³, maximum and minimum (`lumina_ray.gradients.moments`).
        n: elements of the tensor.
        zero_mean: the mean is zero by construction (the tensor writes into the residual stream of a pre-norm network),
            and what a float shows there is rounding noise: 0 is returned in its place.

    Returns:
        Six floats in the order of `STATISTICS`.
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
