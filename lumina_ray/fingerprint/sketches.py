"""Sketches of each tensor's gradient by itself: LoGra and FactGraSS.

Both act on the two factors of a gradient `Σ_s dy_s x_sᵀ` before they are multiplied, so that the gradient is never
formed. Query, key and value projections count as one tensor, with the rows of all three one after another, however a
library stores them. Every random choice is a hash of the seed, the layer, the tensor and the side.

Shape legend: S = sequence steps, M, N = rows and columns of a tensor, m = some of its rows, p, q = rows of the left
and right matrices.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn

from lumina_ray.fingerprint.channels import Backward
from lumina_ray.fingerprint.hashing import choice, signs
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import SongGradient, WeightCall, two_sided_projection
from lumina_ray.model.interface import AttributableModel
from lumina_ray.model.tracked import ROLES
from lumina_ray.vocabulary import Channel

# FactGraSS keeps twice as many rows and columns as LoGra projects to, as its authors' code does.
_BLOW_UP = 2


@dataclass(frozen=True)
class _Tensor:
    """One of the tensors of a layer.

    Attributes:
        number: the tensor's number in the model; it makes the tensor's random choices differ from other tensors'.
        shape: the numbers of rows and columns.
        length: how many numbers of the fingerprint are made of this tensor.
    """

    number: int
    shape: tuple[int, int]
    length: int


class _Sketch(Backward, ABC):
    """Maps each tensor's gradient linearly to its own piece of the channel's vector; all pieces have one length."""

    def __init__(self, model: AttributableModel, specification: Specification) -> None:
        super().__init__(model, specification)
        roles = ROLES[specification.representation]
        self.weights: list[nn.Parameter] = []
        self._tensors: dict[Channel, list[_Tensor]] = {}
        # For each weight: the tensor that it is a piece of, and the row of the tensor at which it begins.
        self._places: list[tuple[_Tensor, int]] = []
        for channel, layers in specification.layers.items():
            length = specification.dims[channel] // specification.blocks(channel)
            self._tensors[channel] = [
                self._register(model.tracked(layer, name), layer * len(roles) + position, length)
                for layer in layers
                for position, name in enumerate(roles)
            ]

    def _register(self, weights: Sequence[nn.Parameter], number: int, length: int) -> _Tensor:
        tensor = _Tensor(number, (sum(len(weight) for weight in weights), weights[0].shape[1]), length)
        first_row = 0
        for weight in weights:
            self.weights.append(weight)
            self._places.append((tensor, first_row))
            first_row += len(weight)
        return tensor

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        totals = self._zeros()
        for call in calls:
            tensor, first_row = self._places[call.parameter]
            self._add_call(totals[tensor], tensor, first_row + call.first_row, call, rows, scales)
        return self._finish(totals)

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        totals = self._zeros()
        for tile in gradient.tiles():
            tensor, first_row = self._places[tile.parameter]
            self._add_rows(totals[tensor], tensor, first_row + tile.first_row, tile.values)
        return self._finish(totals)

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return sums

    def _zeros(self) -> dict[_Tensor, Tensor]:
        return {tensor: self._zero(tensor) for tensors in self._tensors.values() for tensor in tensors}

    def _finish(self, totals: dict[_Tensor, Tensor]) -> dict[Channel, Tensor]:
        return {
            channel: torch.cat([self._vector(tensor, totals[tensor]) for tensor in tensors])
            for channel, tensors in self._tensors.items()
        }

    @abstractmethod
    def _zero(self, tensor: _Tensor) -> Tensor:
        """Float32 zeros, in the shape of the sum that is kept for a tensor."""

    @abstractmethod
    def _add_call(
        self,
        total: Tensor,
        tensor: _Tensor,
        row: int,
        call: WeightCall,
        rows: Sequence[int],
        scales: Sequence[float],
    ) -> None:
        """Add the sketch of the weighted sum of some chunks' gradients; the call begins at `row` of the tensor."""

    @abstractmethod
    def _add_rows(self, total: Tensor, tensor: _Tensor, row: int, values_mN: Tensor) -> None:
        """Add the sketch of some rows of the tensor's gradient, from `row` on."""

    @abstractmethod
    def _vector(self, tensor: _Tensor, total: Tensor) -> Tensor:
        """Float64 `[length]`, made from the sum of a tensor."""


class LoGra(_Sketch):
    """Projects a gradient to `L G Rᵀ` by two Rademacher matrices of √length rows each.

    Source: Choe et al. 2024, arXiv:2405.13954.
    """

    def __init__(self, model: AttributableModel, specification: Specification) -> None:
        super().__init__(model, specification)
        self._sides = {
            tensor: tuple(
                signs(specification.seed, 2 * tensor.number + side, isqrt(tensor.length), size, model.device)
                for side, size in enumerate(tensor.shape)
            )
            for tensors in self._tensors.values()
            for tensor in tensors
        }

    def _zero(self, tensor: _Tensor) -> Tensor:
        left_pM, right_qN = self._sides[tensor]
        return left_pM.new_zeros(len(left_pM), len(right_qN))

    def _add_call(
        self,
        total: Tensor,
        tensor: _Tensor,
        row: int,
        call: WeightCall,
        rows: Sequence[int],
        scales: Sequence[float],
    ) -> None:
        left_pM, right_qN = self._sides[tensor]
        left_pm = left_pM[:, row : row + call.output_grad_BSM.shape[-1]]
        total.add_(two_sided_projection(call, left_pm, right_qN, rows, scales))

    def _add_rows(self, total: Tensor, tensor: _Tensor, row: int, values_mN: Tensor) -> None:
        left_pM, right_qN = self._sides[tensor]
        total.add_(left_pM[:, row : row + len(values_mN)] @ values_mN @ right_qN.T)

    def _vector(self, tensor: _Tensor, total: Tensor) -> Tensor:
        return total.double().flatten()


class FactGrass(_Sketch):
    """Keeps some rows and columns of `G`, and projects them sparsely to `length` numbers.

    Source: Hu et al. 2025, arXiv:2505.18976.
    """

    def __init__(self, model: AttributableModel, specification: Specification) -> None:
        super().__init__(model, specification)
        self._masks: dict[_Tensor, tuple[Tensor, ...]] = {}
        self._kept_rows: dict[_Tensor, list[int]] = {}
        self._projections: dict[_Tensor, SparseProjection] = {}
        for tensor in (tensor for tensors in self._tensors.values() for tensor in tensors):
            kept = [min(_BLOW_UP * isqrt(tensor.length), size) for size in tensor.shape]
            self._masks[tensor] = tuple(
                choice(specification.seed, 2 * tensor.number + side, size, k, model.device)
                for side, (size, k) in enumerate(zip(tensor.shape, kept, strict=True))
            )
            self._kept_rows[tensor] = self._masks[tensor][0].tolist()
            self._projections[tensor] = SparseProjection(
                kept[0] * kept[1], tensor.length, specification.nonzeros, specification.seed + 1 + tensor.number
            )

    def _zero(self, tensor: _Tensor) -> Tensor:
        rows, columns = self._masks[tensor]
        return torch.zeros(len(rows), len(columns), device=rows.device)

    def _add_call(
        self,
        total: Tensor,
        tensor: _Tensor,
        row: int,
        call: WeightCall,
        rows: Sequence[int],
        scales: Sequence[float],
    ) -> None:
        where, kept = self._kept(tensor, row, call.output_grad_BSM.shape[-1])
        _, columns = self._masks[tensor]
        for b, scale in zip(rows, scales, strict=True):
            grad_Sm = call.output_grad_BSM[b][:, kept].float()
            total[where].add_(grad_Sm.T @ call.input_BSN[b][:, columns].float(), alpha=scale)

    def _add_rows(self, total: Tensor, tensor: _Tensor, row: int, values_mN: Tensor) -> None:
        where, kept = self._kept(tensor, row, len(values_mN))
        _, columns = self._masks[tensor]
        total[where].add_(values_mN[kept][:, columns])

    def _vector(self, tensor: _Tensor, total: Tensor) -> Tensor:
        out = torch.zeros(tensor.length, dtype=torch.float64, device=total.device)
        self._projections[tensor].add(out, 0, total)
        return out

    def _kept(self, tensor: _Tensor, row: int, count: int) -> tuple[slice, Tensor]:
        """Find the kept rows within `row` to `row + count`: their positions in the sum, and in that range."""
        rows, _ = self._masks[tensor]
        begin, end = (bisect_left(self._kept_rows[tensor], bound) for bound in (row, row + count))
        return slice(begin, end), rows[begin:end] - row
