"""Moments of a gradient: sums that its six statistics are made from, and that can be merged over pieces of it."""

import torch
from torch import Tensor

# Elements that are converted to float64 at once, few enough for a processor's second-level cache.
_BLOCK = 1 << 16


def moments(values: Tensor) -> Tensor:
    """Σx, Σx², Σx³, maximum and minimum of a float32 tensor of any shape: float64 `[5]`, in one pass.

    The sums are taken about zero, in float64. A gradient's mean is small beside its spread, so that the central moments
    made of these sums are good to about `1e-15 (1 + mean²/variance)^1.5`.
    """
    pieces = []
    for block in values.reshape(-1).split(_BLOCK):
        x = block.double()
        power = x * x
        second = power.sum()
        low, high = torch.aminmax(block)
        pieces.append(torch.stack([x.sum(), second, power.mul_(x).sum(), high.double(), low.double()]))
    return merge(pieces)


def merge(pieces: list[Tensor]) -> Tensor:
    """Merge moments of pieces of one tensor into the moments of the whole: float64 `[5]`.

    Args:
        pieces: float64 `[5]` or `[n, 5]` each. The sums are added in this order, which can change their last bits.
    """
    stacked = torch.cat([piece.reshape(-1, 5) for piece in pieces])
    return torch.cat([stacked[:, :3].sum(dim=0), stacked[:, 3].max()[None], stacked[:, 4].min()[None]])
