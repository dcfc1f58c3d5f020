"""The six statistics of a gradient tensor (LUMINA v8, DESIGN §1.3), in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

STATISTICS = ("mean", "std", "l2", "max", "min", "skewness")
# Large tensors are converted to float64 in pieces: 16.8 million elements would otherwise cost 134 MB each.
_TILE = 1 << 20


def tensor_statistics(parts: Sequence[Tensor], *, zero_mean: bool) -> list[float]:
    """Mean, standard deviation (unbiased), L2 norm, maximum, minimum and skewness of one tensor given in parts.

    Two passes, the second about the mean, tile by tile in a fixed order. Skewness is `m₃ / m₂^1.5` of the population;
    of a constant tensor it is 0, not 0/0.

    Args:
        parts: tensors of any shape that together hold the gradient's elements, such as those of query, key and value.
        zero_mean: the mean is zero by construction (the tensor writes into the residual stream of a pre-norm network),
            and what a float shows there is rounding noise: 0 is returned in its place.

    Returns:
        Six floats in the order of `STATISTICS`.
    """
    tiles = [tile for part in parts for tile in part.detach().flatten().split(_TILE)]
    n = sum(tile.numel() for tile in tiles)
    total = torch.zeros((), dtype=torch.float64, device=tiles[0].device)
    for tile in tiles:
        total += tile.double().sum()
    mean = total / n
    squares, m2, m3 = torch.zeros(3, dtype=torch.float64, device=tiles[0].device)
    for tile in tiles:
        values = tile.double()
        centred = values - mean
        squared = centred.square()
        squares += values.square().sum()
        m2 += squared.sum()
        m3 += (squared * centred).sum()
    variance = m2 / n
    skewness = torch.where(variance > 0, (m3 / n) / variance.clamp(min=1e-300).pow(1.5), 0.0)
    std = (m2 / max(n - 1, 1)).sqrt()
    maximum = torch.stack([tile.max() for tile in tiles]).max().double()
    minimum = torch.stack([tile.min() for tile in tiles]).min().double()
    if zero_mean:
        mean = torch.zeros_like(mean)
    return torch.stack([mean, std, squares.sqrt(), maximum, minimum, skewness]).tolist()
