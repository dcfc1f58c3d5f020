"""Gradients of a model beside those of its companions, whitened, and cut to a fingerprint's length.

A piece that a model made up has a mean gradient of zero under that model, as every score function has under its own
distribution. So a model's own gradients say much of music that it heard and little of music that it made. Under a
companion, an earlier checkpoint or the model that a fine-tuning began from, the piece is news again. The vector has all
of them: gradients along the training, as TracIn adds them up (Pruthi et al. 2020, arXiv:2002.08484).

For each of the models: the gradients of the output heads (the first codebook's for P, the others' for M), and of the
second feed-forward matrix of the middle layer, so that half of a backward pass is enough. Each gradient G becomes
`L G Rᵀ`: it is whitened by the second moments of the catalog's gradients on both of its sides, as Shampoo does (Gupta
et al. 2018, arXiv:1802.09568), and cut to their leading directions, as LoGra does (Choe et al. 2024,
arXiv:2405.13954). Heads and matrix are a block each. All blocks are brought to one length and laid end to end: z.

z has more numbers than a vector may have, and its cosines are so small that a random projection drowns them. What of z
lies in the span of the catalog's sampled songs is therefore kept exactly, as coordinates in an orthonormal basis, and
only the rest is projected (Williams and Seeger 2001, "Using the Nyström Method to Speed Up Kernel Machines"). The
projected rest is brought to the length that it had, so that the vector is as long as z, and its inner product with a
sampled song's is that of the two z.

Shape legend: M, N = rows and columns of a weight; p, q = directions that are kept of them; S = numbers of z; r =
directions of the basis; D = fingerprint dimensions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.errors import ModelError
from lumina_ray.fingerprint.channels import Backward
from lumina_ray.fingerprint.kinds import companion_layer
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import SongGradient, WeightCall, freeze, two_sided_projection
from lumina_ray.model.companion import COMPANION_FILE, MAX_SONGS, Companions, companions_of
from lumina_ray.model.interface import MusicModel
from lumina_ray.vocabulary import Channel, codebooks_of

_TINY = 1e-30


class CompanionGradients:
    """Whitened gradients of a model and of its companions, with one backward pass under each."""

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        """Open the companions, if they are not open yet, and freeze them.

        Raises:
            ModelError: the model has no companion, one is not at hand, or what was measured does not fit them.
            SpecificationMismatch: one of the models has other weights than it was measured with.
        """
        found = companions_of(model)
        companions = found.open(model.device, specification.torch_dtype)
        for companion in companions:
            freeze(companion)
        channels, models = specification.channels, (model, *companions)
        tracked = {of: tracked_weights(one, channels) for of, one in zip(names_of(len(models)), models, strict=True)}
        named = {f"{of}/{name}": weight for of, weights in tracked.items() for name, weight in weights.items()}
        self.weights = list(named.values())
        self._passes = [Backward(one, specification) for one in models]
        for one, weights in zip(self._passes, tracked.values(), strict=True):
            one.weights = list(weights.values())
        sides = _fitting_sides(found, named, model)
        self._left_pM, self._right_qN = (
            [torch.from_numpy(matrix).to(model.device) for matrix in matrices] for matrices in zip(*sides, strict=True)
        )
        places = {name: place for place, name in enumerate(named)}
        # For each channel: the positions in `weights` of each block of z.
        self._blocks = {
            c: [[places[name] for name in block] for block in blocks_of(c, model.n_codebooks, tracked)]
            for c in channels
        }
        self._compressions = {}
        for channel, blocks in self._blocks.items():
            lengths = [sum(self._n_kept(place) for place in block) for block in blocks]
            basis_Sr = _fitting_basis(found, channel, sum(lengths), model)
            self._compressions[channel] = _Compression(basis_Sr, lengths, specification.dims[channel], specification)

    def _n_kept(self, place: int) -> int:
        return len(self._left_pM[place]) * len(self._right_qN[place])

    def capture(self, codes_BKT: Tensor, n_frames: list[int], heard_BT: Tensor) -> list[WeightCall]:
        calls, first = [], 0
        for one in self._passes:
            calls += [
                replace(call, parameter=first + call.parameter) for call in one.capture(codes_BKT, n_frames, heard_BT)
            ]
            first += len(one.weights)
        return calls

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        totals = self._zeros()
        for call in calls:
            used = slice(call.first_row, call.first_row + call.output_grad_BSM.shape[-1])
            left_pm, right_qN = self._left_pM[call.parameter][:, used], self._right_qN[call.parameter]
            totals[call.parameter].add_(two_sided_projection(call, left_pm, right_qN, rows, scales))
        return self._joined(totals)

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        totals = self._zeros()
        for tile in gradient.tiles():
            used = slice(tile.first_row, tile.first_row + len(tile.values))
            left_pm, right_qN = self._left_pM[tile.parameter][:, used], self._right_qN[tile.parameter]
            totals[tile.parameter].add_(left_pm @ tile.values @ right_qN.T)
        return self._joined(totals)

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return {channel: self._compressions[channel](sums_S) for channel, sums_S in sums.items()}

    def _zeros(self) -> list[Tensor]:
        pairs = zip(self._left_pM, self._right_qN, strict=True)
        return [left_pM.new_zeros(len(left_pM), len(right_qN)) for left_pM, right_qN in pairs]

    def _joined(self, totals: Sequence[Tensor]) -> dict[Channel, Tensor]:
        """Lay what was kept of a channel's tensors end to end: float64 `[S]`."""
        return {
            channel: torch.cat([totals[place].flatten() for block in blocks for place in block]).double()
            for channel, blocks in self._blocks.items()
        }


class _Compression:
    """Cuts the sums of one channel to a vector: coordinates in the catalog's span, and a projection of the rest."""

    def __init__(self, basis_Sr: Tensor, lengths: list[int], dims: int, specification: Specification) -> None:
        """
        Args:
            lengths: numbers of each block of z.
            dims: D.
            specification: whose projection is used.
        """
        self._basis_Sr, self._lengths, self._dims = basis_Sr, lengths, dims
        S, r = basis_Sr.shape
        nonzeros = specification.nonzeros
        # As many as are left and can be projected to; up to three numbers between the two parts are zero.
        self._projection = SparseProjection(S, (dims - r) // nonzeros * nonzeros, nonzeros, specification.seed)

    def __call__(self, sums_S: Tensor) -> Tensor:
        """Float64 `[D]`."""
        z_S = unit_blocks(sums_S.split(self._lengths))
        within_r = self._basis_Sr.T @ z_S.float()
        beyond_S = z_S - (self._basis_Sr @ within_r).double()
        projected = torch.zeros(self._projection.n_out, dtype=torch.float64, device=z_S.device)
        self._projection.add(projected, 0, beyond_S)
        projected *= beyond_S.norm() / projected.norm().clamp(min=_TINY)
        gap = projected.new_zeros(self._dims - len(within_r) - len(projected))
        return torch.cat([within_r.double(), gap, projected])


def tracked_weights(model: MusicModel, channels: Iterable[Channel]) -> dict[str, nn.Parameter]:
    """The weights of one model that make up some channels, by name."""
    codebooks = sorted({k for channel in channels for k in codebooks_of(channel, model.n_codebooks)})
    heads = model.heads()
    (matrix,) = model.tracked(companion_layer(model.n_layers), "linear2")
    return {f"heads.{k}": heads[k] for k in codebooks} | {"linear2": matrix}


def names_of(n_models: int) -> list[str]:
    """Names of a model and its companions, in names of tensors: `model/heads.0`, `companion-1/heads.0`."""
    return ["model", *(f"companion-{i}" for i in range(1, n_models))]


def blocks_of(channel: Channel, n_codebooks: int, models: Iterable[str]) -> list[list[str]]:
    """Names of the tensors of each block of a channel's z, in their order.

    Args:
        models: from `names_of`.
    """
    heads = [f"heads.{k}" for k in codebooks_of(channel, n_codebooks)]
    return [[f"{of}/{name}" for name in names] for of in models for names in (heads, ["linear2"])]


def unit_blocks(blocks: Sequence[Tensor]) -> Tensor:
    """Lay blocks end to end, each brought to one length, so that the whole has length 1; zeros stay zeros."""
    return torch.cat([block / block.norm().clamp(min=_TINY) for block in blocks]) / len(blocks) ** 0.5


def _fitting_sides(
    found: Companions, weights: Mapping[str, nn.Parameter], model: MusicModel
) -> list[tuple[np.ndarray, np.ndarray]]:
    out = []
    for name, weight in weights.items():
        sides = found.sides.get(name)
        if sides is None or (sides.left_pM.shape[1], sides.right_qN.shape[1]) != weight.shape:
            raise _unfit(model, f"it has no matrices for {name} {list(weight.shape)}")
        out.append((sides.left_pM, sides.right_qN))
    return out


def _fitting_basis(found: Companions, channel: Channel, n_numbers: int, model: MusicModel) -> Tensor:
    basis_Sr = found.bases[channel]
    if len(basis_Sr) != n_numbers or basis_Sr.shape[1] > MAX_SONGS:
        raise _unfit(
            model, f"its basis of channel {channel} is {basis_Sr.shape}, not ({n_numbers}, {MAX_SONGS} or fewer)"
        )
    return torch.from_numpy(found.orthonormal[channel]).to(model.device)


def _unfit(model: MusicModel, why: str) -> ModelError:
    return ModelError(
        f"model {model.name!r}: its {COMPANION_FILE} does not fit it and its companions: {why}; make it again with "
        "`lumina statistics STORE MODEL --companion NAME`"
    )
