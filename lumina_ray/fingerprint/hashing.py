"""Random numbers that are hashes of their positions: every device and every release of a library gives the same."""

import torch
from torch import Tensor


def hashes(seed: int, stream: int, start: int, count: int, device: torch.device) -> Tensor:
    """Elements `start` to `start + count` of an endless sequence, int64 `[count]`; seed and stream choose it."""
    index = torch.arange(start, start + count, dtype=torch.int64, device=device)
    return splitmix64(index + splitmix64(torch.tensor(seed * 1_000_003 + stream, device=device)))


def signs(seed: int, stream: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """A Rademacher matrix, float32 `[rows, columns]` of ±1/√rows: it keeps inner products in expectation."""
    bits = hashes(seed, stream, 0, rows * columns, device) & 1
    return ((bits * 2 - 1).double() / rows**0.5).float().view(rows, columns)


def choice(seed: int, stream: int, n: int, k: int, device: torch.device) -> Tensor:
    """A random choice of k of n positions, int64 `[k]`, ascending; every set of k is equally likely."""
    # Hashes of different positions differ, so that sorting has no ties.
    return hashes(seed, stream, 0, n, device).argsort()[:k].sort().values


def splitmix64(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014) on int64, where products wrap around as they do on uint64."""
    x = x + -7046029254386353131  # 0x9E3779B97F4A7C15
    x = (x ^ _shift_right(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift_right(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically. The hash needs a logical shift, so the copies of the sign bit are masked.
    return (x >> bits) & ((1 << (64 - bits)) - 1)
