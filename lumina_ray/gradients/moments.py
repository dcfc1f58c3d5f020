"""Sums over a gradient's elements that add up over its parts: everything that its statistics are made from."""

import torch
from torch import Tensor

# Elements widened to float64 at once: their scratch stays in a processor's second-level cache.
_BLOCK = 1 << 16


def moments(values: Tensor) -> Tensor:
    """Float64 `[5]`: Σx, Σx², Σx³, maximum and minimum of a float32 tensor, in one pass over it.

    The sums are about zero and in float64. A gradient's mean is small next to its spread, and the central moments that
    are made of these sums are good to about `1e-15 (1 + mean²/variance)^1.5`.
    """
    parts = []
    for block in values.reshape(-1).split(_BLOCK):
        x = block.double()
        power = x * x
        second = power.sum()
        low, high = torch.aminmax(block)
        parts.append(torch.stack([x.sum(), second, power.mul_(x).sum(), high.double(), low.double()]))
    return merge(parts)


def merge(parts: list[Tensor]) -> Tensor:
    """Moments of several parts of one tensor, each `[5]` or `[n, 5]`, as those of the whole, added in this order."""
    stacked = torch.cat([part.reshape(-1, 5) for part in parts])
    return torch.cat([stacked[:, :3].sum(dim=0), stacked[:, 3].max()[None], stacked[:, 4].min()[None]])
