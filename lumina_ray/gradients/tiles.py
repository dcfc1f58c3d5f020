"""Makes weight gradients from captured factors, tile by tile. A tile is a block of rows of one gradient.

A tile is used, and dropped, while it is still in the processor's cache. The gradient as a whole need not exist.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lumina_ray.gradients.capture import WeightCall

# Elements of a tile: 4 MB of float32. A few more tensors of this size cost next to no memory.
_TILE = 1 << 20


@dataclass(frozen=True)
class Tile:
    """Some rows of one tracked weight's gradient.

    Attributes:
        parameter: position of the weight in the list of tracked weights.
        first_row: the weight's row at which the tile begins.
        values: float32 `[m, N]`, m rows of the gradient.
    """

    parameter: int
    first_row: int
    values: Tensor


def gradient_tiles(calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]) -> Iterator[Tile]:
    """Make the weighted sum `Σ_i scales[i] · G(chunk rows[i])` of every tracked weight, tile by tile.

    Each chunk's product is made by itself, and products are added in the given order, in float32. So it does not matter
    whether all chunks come from one batch, or are added to the sum of earlier batches.

    Args:
        calls: captured factors of a batch.
        rows: positions of the chunks in the batch.
        scales: weight of each of these chunks.
    """
    for call in calls:
        M, N = call.output_grad_BSM.shape[-1], call.input_BSN.shape[-1]
        step = max(_TILE // N, 1)
        for row in range(0, M, step):
            total_mN = None
            for b, scale in zip(rows, scales, strict=True):
                grad_Sm = call.output_grad_BSM[b, :, row : row + step].float()
                product_mN = grad_Sm.T @ call.input_BSN[b].float()
                total_mN = product_mN.mul_(scale) if total_mN is None else total_mN.add_(product_mN, alpha=scale)
            assert total_mN is not None
            yield Tile(call.parameter, call.first_row + row, total_mN)


def first_tile(call: WeightCall) -> WeightCall:
    """Cut a call down to the factors of its first tile."""
    rows = max(_TILE // call.input_BSN.shape[-1], 1)
    return replace(call, output_grad_BSM=call.output_grad_BSM[..., :rows])


class SongGradient:
    """The gradient of a song whose chunks come in several batches: a sum over chunks, kept as float32 tensors."""

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        """Start at zero, with one tensor per tracked weight, of the weights' shapes."""
        self._totals = [torch.zeros(shape, device=device) for shape in shapes]

    def add(self, tiles: Iterable[Tile], scale: float) -> None:
        """Add `scale` times the tiles of one chunk's gradient."""
        for tile in tiles:
            rows = slice(tile.first_row, tile.first_row + len(tile.values))
            self._totals[tile.parameter][rows].add_(tile.values, alpha=scale)

    def tiles(self) -> Iterator[Tile]:
        """The sum so far, tile by tile."""
        for parameter, total_MN in enumerate(self._totals):
            step = max(_TILE // total_MN.shape[1], 1)
            for row in range(0, len(total_MN), step):
                yield Tile(parameter, row, total_MN[row : row + step])
