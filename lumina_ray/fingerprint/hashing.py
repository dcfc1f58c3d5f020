"""Random numbers that are hashes of where they stand: the same on every device and in every release of a library."""

import torch
from torch import Tensor


def hashes(seed: int, stream: int, start: int, count: int, device: torch.device) -> Tensor:
    """Int64 `[count]`: elements `start` to `start + count` of an endless sequence, one for each seed and stream."""
    index = torch.arange(start, start + count, dtype=torch.int64, device=device)
    return splitmix64(index + splitmix64(torch.tensor(seed * 1_000_003 + stream, device=device)))


def signs(seed: int, stream: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Float32 `[rows, columns]` of ±1/√rows (Rademacher): on average it keeps inner products of `columns` numbers."""
    bits = hashes(seed, stream, 0, rows * columns, device) & 1
    return ((bits * 2 - 1).double() / rows**0.5).float().view(rows, columns)


def choice(seed: int, stream: int, n: int, k: int, device: torch.device) -> Tensor:
    """Int64 `[k]`: ascending positions of k of n things, every set of k as likely as another."""
    # Hashes of different positions differ, so the order has no ties.
    return hashes(seed, stream, 0, n, device).argsort()[:k].sort().values


def splitmix64(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014) on int64, whose products wrap as those of uint64 do."""
    x = x + -7046029254386353131  # 0x9E3779B97F4A7C15
    x = (x ^ _shift_right(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift_right(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically; a hash wants the sign bits gone.
    return (x >> bits) & ((1 << (64 - bits)) - 1)
