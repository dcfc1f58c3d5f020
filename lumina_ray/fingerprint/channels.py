"""Statistics and projections of gradients, per channel.

An extraction says which weights are tracked, how a batch of chunks is captured, and how a song's gradient becomes one
vector per channel. How chunks are batched and songs put together is the business of `fingerprint.py`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lumina_ray.errors import ModelError
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.fingerprint.specification import Channel, Specification
from lumina_ray.fingerprint.statistics import statistics_of
from lumina_ray.gradients import SongGradient, Tile, Use, capture, capture_heads, gradient_tiles, merge, moments
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.statistics import STATISTICS_FILE
from lumina_ray.model.tracked import TRACKED_TENSORS, TrackedTensor

# They write into the residual stream, whose gradient sums to zero over features because every path to the loss goes
# through a layer norm: the mean of their gradients is zero by construction.
_ZERO_MEAN: frozenset[TrackedTensor] = frozenset({"self_out_proj", "cross_out_proj", "linear2"})


class Extraction(Protocol):
    """One kind of fingerprint over one model.

    Attributes:
        weights: the tracked weights; tiles name them by their position here.
    """

    weights: list[nn.Parameter]

    def capture(self, codes_BKT: Tensor, n_frames: list[int]) -> list[Use]:
        """Captured factors of a batch of chunks; int64 codes, the first `n_frames[b]` frames of row b real."""
        ...

    def of_chunks(self, uses: Sequence[Use], rows: Sequence[int], shares: Sequence[float]) -> dict[Channel, Tensor]:
        """What the vectors of a weighted sum of some chunks' gradients are made of, in float64, on the device."""
        ...

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        """The same of a song whose chunks came in several batches."""
        ...

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        """Float64 `[D]` per channel from what `of_chunks` or `of_song` returned; the first to read a result."""
        ...


class Backward:
    """Captures with a backward pass."""

    weights: list[nn.Parameter]

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        self._model = model
        self._specification = specification

    def capture(self, codes_BKT: Tensor, n_frames: list[int]) -> list[Use]:
        specification = self._specification
        return capture(
            self._model,
            codes_BKT,
            n_frames,
            self.weights,
            tuple(specification.codebook_weights),
            dtype=specification.torch_dtype,
            loss_scale=specification.loss_scale,
        )


class Statistics(Backward):
    """Six statistics of six tensors in each layer of the band (LUMINA v8)."""

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        super().__init__(model, specification)
        self.weights = []
        # Of each tensor: whether its mean is zero, and where its parts are among the weights.
        self._tensors: dict[Channel, list[tuple[bool, range]]] = {}
        for channel, layers in specification.layers.items():
            self._tensors[channel] = []
            for layer in layers:
                for tensor in TRACKED_TENSORS:
                    begin = len(self.weights)
                    self.weights += model.tracked(layer, tensor)
                    self._tensors[channel].append((tensor in _ZERO_MEAN, range(begin, len(self.weights))))

    def of_chunks(self, uses: Sequence[Use], rows: Sequence[int], shares: Sequence[float]) -> dict[Channel, Tensor]:
        if uses[0].input_BSN.is_cuda:
            # Imported here, as Triton comes with builds of torch for GPUs only.
            from lumina_ray.gradients.triton_moments import fused_moments

            return self._by_tensor([(use.parameter, fused_moments(use, rows, shares)) for use in uses])
        return self._by_tensor(_moments_of(gradient_tiles(uses, rows, shares)))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._by_tensor(_moments_of(gradient.tiles()))

    def _by_tensor(self, moments_of_parts: Iterable[tuple[int, Tensor]]) -> dict[Channel, Tensor]:
        """Moments `[tensors, 5]` of each channel."""
        parts: list[list[Tensor]] = [[] for _ in self.weights]
        for parameter, part in moments_of_parts:
            parts[parameter].append(part)
        return {
            channel: torch.stack([merge([part for i in where for part in parts[i]]) for _, where in tensors])
            for channel, tensors in self._tensors.items()
        }

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return {
            channel: torch.tensor(
                [
                    value
                    for (zero_mean, where), of_tensor in zip(tensors, sums[channel].tolist(), strict=True)
                    for value in statistics_of(
                        of_tensor, sum(self.weights[i].numel() for i in where), zero_mean=zero_mean
                    )
                ],
                dtype=torch.float64,
            )
            for channel, tensors in self._tensors.items()
        }


def _moments_of(tiles: Iterable[Tile]) -> Iterator[tuple[int, Tensor]]:
    return ((tile.parameter, moments(tile.values)) for tile in tiles)


class ProjectedGradients(Backward):
    """Projected gradients of some weights of each channel."""

    def __init__(
        self, model: MusicModel, specification: Specification, of_channel: Mapping[Channel, Sequence[nn.Parameter]]
    ) -> None:
        super().__init__(model, specification)
        self.weights = [p for weights in of_channel.values() for p in weights]
        self._projector = Projector(of_channel, specification)

    def of_chunks(self, uses: Sequence[Use], rows: Sequence[int], shares: Sequence[float]) -> dict[Channel, Tensor]:
        return self._projector(gradient_tiles(uses, rows, shares))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._projector(gradient.tiles())

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return sums


class ProjectedHeadGradients:
    """Projected gradients of output heads from a forward pass alone: the first codebook's (P), the others' (M).

    Of the model's own heads ("head-gradient"), or of fresh ones ("influence"): see `capture_heads`.

    The first codebook of a residual quantiser carries what the song is, melody and harmony among it; the others refine
    how it sounds. That makes them the natural proxies of composition and production until ground truth says better.
    """

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        self._model = model
        self._specification = specification
        heads = model.heads()
        of_channel: dict[Channel, list[int]] = {
            channel: [0] if channel == "P" else list(range(1, model.n_codebooks)) for channel in specification.layers
        }
        self._heads = [k for ks in of_channel.values() for k in ks]
        self._fresh = specification.kind == "influence"
        if self._fresh:
            # Of fresh heads only the shapes are of use: weights and biases, side by side.
            heads = tuple(nn.Parameter(torch.empty(C, D + 1, device="meta")) for C, D in (h.shape for h in heads))
        self.weights = [heads[k] for k in self._heads]
        self._projector = Projector({c: [heads[k] for k in ks] for c, ks in of_channel.items()}, specification)
        self._shared: dict[Channel, Tensor] = {}
        if self._fresh:
            known = [channel for channel in of_channel if channel in model.statistics.shared]
            self._shared = {channel: _shared(model, channel, specification.dims[channel]) for channel in known}

    def capture(self, codes_BKT: Tensor, n_frames: list[int]) -> list[Use]:
        specification = self._specification
        weights = tuple(specification.codebook_weights)
        return capture_heads(
            self._model, codes_BKT, n_frames, self._heads, weights, fresh=self._fresh, dtype=specification.torch_dtype
        )

    def of_chunks(self, uses: Sequence[Use], rows: Sequence[int], shares: Sequence[float]) -> dict[Channel, Tensor]:
        return self._projector(gradient_tiles(uses, rows, shares))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._projector(gradient.tiles())

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return {c: _without(self._shared.get(c), x_D) for c, x_D in sums.items()}


def _without(shared_Dr: Tensor | None, x_D: Tensor) -> Tensor:
    return x_D if shared_Dr is None else x_D - shared_Dr @ (shared_Dr.T @ x_D)


def _shared(model: MusicModel, channel: Channel, dims: int) -> Tensor:
    """Float64 `[D, r]` on the model's device: see `lumina_ray.model.statistics.shared_directions`."""
    shared_Dr = model.statistics.shared[channel]
    if len(shared_Dr) != dims:
        raise ModelError(
            f"model {model.name!r}: its {STATISTICS_FILE} is for fingerprints of {len(shared_Dr)} numbers, not {dims}; "
            "make it again with `lumina statistics`"
        )
    return torch.from_numpy(shared_Dr).double().to(model.device)


class Projector:
    """Projects the weights of each channel, laid end to end, to that channel's dimensions."""

    def __init__(self, of_channel: Mapping[Channel, Sequence[nn.Parameter]], specification: Specification) -> None:
        self._projections: dict[Channel, SparseProjection] = {}
        # Of each weight: its channel, and where in that channel's long vector it begins.
        self._places: list[tuple[Channel, int]] = []
        for channel, weights in of_channel.items():
            begin = 0
            for weight in weights:
                self._places.append((channel, begin))
                begin += weight.numel()
            self._projections[channel] = SparseProjection(
                begin, specification.dims[channel], specification.nonzeros, specification.seed
            )

    def __call__(self, tiles: Iterable[Tile]) -> dict[Channel, Tensor]:
        out = {c: torch.zeros(projection.n_out, dtype=torch.float64) for c, projection in self._projections.items()}
        for tile in tiles:
            channel, begin = self._places[tile.parameter]
            begin += tile.first_row * tile.values.shape[1]
            out[channel] = out[channel].to(tile.values.device)
            self._projections[channel].add(out[channel], begin, tile.values)
        return out
