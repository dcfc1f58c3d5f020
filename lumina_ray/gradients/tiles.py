"""Weight gradients from captured factors, a block of rows at a time.

A block is used, and forgotten, while it is still in the processor's cache; the gradient as a whole need not exist.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lumina_ray.gradients.capture import Use

# Elements of a block: 4 MB of float32, and small enough that a bit more scratch of the kind costs nothing.
_TILE = 1 << 20


@dataclass(frozen=True)
class Tile:
    """Some rows of one tracked weight's gradient, float32 `[m, N]`.

    Attributes:
        parameter: position of the weight among the tracked ones.
        first_row: where in the weight the rows are.
    """

    parameter: int
    first_row: int
    values: Tensor


def gradient_tiles(uses: Sequence[Use], rows: Sequence[int], shares: Sequence[float]) -> Iterator[Tile]:
    """The weighted sum `Σ_i shares[i] · G(chunk rows[i])` of every tracked weight, tile by tile.

    Each chunk's product is formed by itself and added in the given order in float32, so that it does not matter
    whether chunks came from one batch or are added to what earlier batches left.
    """
    for use in uses:
        M, N = use.output_grad_BSM.shape[-1], use.input_BSN.shape[-1]
        step = max(_TILE // N, 1)
        for row in range(0, M, step):
            total_mN = None
            for b, share in zip(rows, shares, strict=True):
                grad_Sm = use.output_grad_BSM[b, :, row : row + step].float()
                product_mN = grad_Sm.T @ use.input_BSN[b].float()
                total_mN = product_mN.mul_(share) if total_mN is None else total_mN.add_(product_mN, alpha=share)
            assert total_mN is not None
            yield Tile(use.parameter, use.first_row + row, total_mN)


def first_tile(use: Use) -> Use:
    """The part of a use of a weight that one tile is made from."""
    rows = max(_TILE // use.input_BSN.shape[-1], 1)
    return replace(use, output_grad_BSM=use.output_grad_BSM[..., :rows])


class SongGradient:
    """The gradient of a song whose chunks come in several batches: a sum over chunks, kept as float32 tensors."""

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        self._totals = [torch.zeros(shape, device=device) for shape in shapes]

    def add(self, tiles: Iterable[Tile], share: float) -> None:
        for tile in tiles:
            rows = slice(tile.first_row, tile.first_row + len(tile.values))
            self._totals[tile.parameter][rows].add_(tile.values, alpha=share)

    def tiles(self) -> Iterator[Tile]:
        for parameter, total_MN in enumerate(self._totals):
            step = max(_TILE // total_MN.shape[1], 1)
            for row in range(0, len(total_MN), step):
                yield Tile(parameter, row, total_MN[row : row + step])
