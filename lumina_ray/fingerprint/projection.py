"""A sparse Johnson–Lindenstrauss projection that never stores its matrix.

The outputs form `s` blocks, and each block is a count sketch: every input coordinate goes, with a random sign, to one
random output of each block (Kane & Nelson 2014, "Sparser Johnson-Lindenstrauss Transforms", the block construction).
Bucket and sign come from a hash of (seed, block, coordinate) in 64-bit integer arithmetic, so that any device and any
release of any library gives the same matrix. The cost is `s` additions per coordinate instead of one per matrix
element.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lumina_ray.fingerprint.hashing import hashes

# Coordinates that are hashed at once: this bounds the memory for integers at a few times 8 MB.
_TILE = 1 << 20


@dataclass(frozen=True)
class SparseProjection:
    """A linear map from `n_in` to `n_out` numbers that keeps inner products in expectation.

    Attributes:
        n_in: length of the input.
        n_out: length of the output, a multiple of `nonzeros`.
        nonzeros: `s`, the number of non-zero entries per input coordinate, each ±1/√s. The variance of an inner product
            is about that of a dense projection, `(‖x‖²‖y‖² + ⟨x,y⟩²)/n_out`.
        seed: seed of the hash; equal seeds and sizes give equal projections.
        keeps: whether all hashes are kept: 16 bytes for each of `nonzeros · n_in`, and much faster from the second
            vector on. Those of small inputs are kept in any case.

    Raises:
        ValueError: `nonzeros` does not divide `n_out`.
    """

    n_in: int
    n_out: int
    nonzeros: int
    seed: int
    keeps: bool = False

    def __post_init__(self) -> None:
        if self.n_out % self.nonzeros:
            raise ValueError(f"nonzeros ({self.nonzeros}) must divide n_out ({self.n_out})")

    def add(self, out: Tensor, start: int, values: Tensor) -> None:
        """Add the projection of a piece of the input to `out`.

        A projected vector is the sum over the input's pieces. Another order of pieces may change its last bits.

        Args:
            out: float64 `[n_out]`, changed in place.
            start: the input coordinate at which the piece begins.
            values: the piece, of any shape and float type; it is read row by row.

        Raises:
            ValueError: the piece ends past the input's end.
        """
        if start + values.numel() > self.n_in:
            raise ValueError(f"this projection takes {self.n_in} numbers, got {start + values.numel()}")
        for tile in values.reshape(-1).split(_TILE):
            wide = tile.double()
            for block in range(self.nonzeros):
                buckets, signs = self._entries(block, start, len(tile), tile.device)
                out.scatter_add_(0, buckets, wide * signs)
            start += len(tile)

    @cached_property
    def _cache(self) -> dict[tuple[int, int, int, torch.device], tuple[Tensor, Tensor]]:
        return {}

    def _entries(self, block: int, start: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        key = (block, start, count, device)
        if key in self._cache:
            return self._cache[key]
        width = self.n_out // self.nonzeros
        hashed = hashes(self.seed, block, start, count, device)
        buckets = (hashed >> 1 & (1 << 62) - 1) % width + block * width
        signs = ((hashed & 1) * 2 - 1).double() / self.nonzeros**0.5
        # Small inputs, such as the output heads of a small model, are hashed once. Their entries are kept.
        if self.keeps or self.n_in <= _TILE:
            self._cache[key] = (buckets, signs)
        return buckets, signs
