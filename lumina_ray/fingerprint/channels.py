"""Extractions: how a song's gradient becomes one vector per channel, by statistics or by projection.

An extraction says which weights are tracked, how a batch of chunks is captured, and how a gradient becomes vectors.
`fingerprint.py` batches the chunks and puts songs together again.

Shape legend: B = chunks, K = codebooks, T = frames, C = codes of a codebook, D = fingerprint dimensions,
r = shared directions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lumina_ray.errors import ModelError
from lumina_ray.fingerprint.gradient_statistics import six_statistics
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import SongGradient, Tile, WeightCall, capture, capture_heads, gradient_tiles, merge, moments
from lumina_ray.gradients.capture import Measure
from lumina_ray.model.interface import AttributableModel, MusicModel
from lumina_ray.model.statistics import STATISTICS_FILE
from lumina_ray.model.tracked import ROLES, ZERO_MEAN, TrackedTensor
from lumina_ray.vocabulary import CHANNELS, Channel, codebooks_of

_ATTENTION: tuple[TrackedTensor, ...] = ("self_in_proj", "self_out_proj")

Project = Callable[[Iterable[Tile]], dict[Channel, Tensor]]
"""Projects all tiles of a gradient: float64 `[D]` per channel."""


class Extraction(Protocol):
    """One kind of fingerprint, made with one model.

    Attributes:
        weights: the tracked weights. Tiles and calls refer to a weight by its position in this list.
    """

    weights: list[nn.Parameter]

    def capture(self, codes_BKT: Tensor, n_frames: list[int], heard_BT: Tensor) -> list[WeightCall]:
        """Run the model on a batch of chunks, and return the factors of the tracked weights' gradients.

        Args:
            codes_BKT: int64 codes or float32 latents, padded to one length.
            n_frames: number of real frames of each chunk; 0 for a row that only fills the batch.
            heard_BT: bool, whether each frame holds sound; false for padding.
        """
        ...

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        """Summarise the weighted sum of some chunks' gradients, so that `vectors` can make vectors from it.

        Args:
            calls: factors that `capture` returned.
            rows: positions of the chunks in the batch.
            scales: weight of each of these chunks.

        Returns:
            One float64 tensor per channel, on the model's device.
        """
        ...

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        """Summarise the gradient of a song whose chunks came in several batches; returns what `of_chunks` returns."""
        ...

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        """Make float64 `[D]` per channel from what `of_chunks` or `of_song` returned.

        No earlier step reads a result from the device, so that work on a GPU is not held up.
        """
        ...


class Backward:
    """Base of extractions that capture gradients with a backward pass: of the model's loss, or of another measure."""

    weights: list[nn.Parameter]
    measure: Measure | None = None

    def __init__(self, model: AttributableModel, specification: Specification) -> None:
        self._model = model
        self._specification = specification

    def capture(self, codes_BKT: Tensor, n_frames: list[int], heard_BT: Tensor) -> list[WeightCall]:
        specification = self._specification
        return capture(
            self._model,
            codes_BKT,
            n_frames,
            self.weights,
            tuple(specification.codebook_weights),
            heard_BT=heard_BT,
            draws=specification.draws,
            measure=self.measure,
            dtype=specification.torch_dtype,
            loss_scale=specification.loss_scale,
        )


class GradientStatistics(Backward):
    """Six statistics of each tensor in each layer of the band (LUMINA v8)."""

    def __init__(self, model: AttributableModel, specification: Specification) -> None:
        super().__init__(model, specification)
        self.weights = []
        # For each tensor: whether its mean is zero by construction, and the positions of its pieces in `weights`.
        self._tensors: dict[Channel, list[tuple[bool, range]]] = {}
        for channel, layers in specification.layers.items():
            self._tensors[channel] = []
            for layer in layers:
                for tensor in ROLES[specification.representation]:
                    begin = len(self.weights)
                    self.weights += model.tracked(layer, tensor)
                    zero_mean = tensor in ZERO_MEAN[specification.representation]
                    self._tensors[channel].append((zero_mean, range(begin, len(self.weights))))

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        if calls[0].input_BSN.is_cuda:
            # The import is here because only builds of torch for GPUs come with Triton.
            from lumina_ray.gradients.triton_moments import fused_moments

            return self._by_tensor([(call.parameter, fused_moments(call, rows, scales)) for call in calls])
        return self._by_tensor(_moments_of(gradient_tiles(calls, rows, scales)))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._by_tensor(_moments_of(gradient.tiles()))

    def _by_tensor(self, moments_of_pieces: Iterable[tuple[int, Tensor]]) -> dict[Channel, Tensor]:
        """Merge the moments of pieces of weights into moments of tensors: float64 `[tensors, 5]` per channel."""
        pieces: list[list[Tensor]] = [[] for _ in self.weights]
        for parameter, piece in moments_of_pieces:
            pieces[parameter].append(piece)
        return {
            channel: torch.stack([merge([piece for i in where for piece in pieces[i]]) for _, where in tensors])
            for channel, tensors in self._tensors.items()
        }

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return {
            channel: torch.tensor(
                [
                    value
                    for (zero_mean, where), of_tensor in zip(tensors, sums[channel].tolist(), strict=True)
                    for value in six_statistics(
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
    """The gradient of some weights, projected to one vector per channel.

    `weights_of_channel` names the weights that make up each channel.
    """

    def __init__(
        self,
        model: AttributableModel,
        specification: Specification,
        weights_of_channel: Mapping[Channel, Sequence[nn.Parameter]],
    ) -> None:
        super().__init__(model, specification)
        self.weights = [p for weights in weights_of_channel.values() for p in weights]
        self._projector: Project = Projector(weights_of_channel, specification)

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        return self._projector(gradient_tiles(calls, rows, scales))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._projector(gradient.tiles())

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return sums


def attention_and_head_gradients(model: AttributableModel, specification: Specification) -> ProjectedGradients:
    """Open "jl": gradients of self-attention in all layers (P) and of the output heads (M) (LUMINA v7)."""
    layers = specification.layers
    weights = {c: _weights_of(model, layers[c], _ATTENTION) if c == "P" else model.heads() for c in layers}
    return ProjectedGradients(model, specification, weights)


def output_gradients(model: AttributableModel, specification: Specification) -> ProjectedGradients:
    """Open "head-gradient" of latents: gradients of the last linear layer (P) and of the convolution after it (M).

    No layer is differentiated through: it costs a forward pass and the last two products.
    """
    of_channel = dict(zip(CHANNELS, model.heads(), strict=True))
    return ProjectedGradients(model, specification, {c: [of_channel[c]] for c in specification.layers})


def band_gradients(model: AttributableModel, specification: Specification) -> ProjectedGradients:
    """Open "gradient": gradients of all tensors in each layer of a channel's band."""
    return ProjectedGradients(model, specification, band_weights(model, specification))


def band_weights(model: AttributableModel, specification: Specification) -> dict[Channel, tuple[nn.Parameter, ...]]:
    """The weights of all tensors in each layer of a channel's band."""
    roles = ROLES[specification.representation]
    return {channel: _weights_of(model, layers, roles) for channel, layers in specification.layers.items()}


def _weights_of(
    model: AttributableModel, layers: list[int], tensors: tuple[TrackedTensor, ...]
) -> tuple[nn.Parameter, ...]:
    return tuple(weight for layer in layers for tensor in tensors for weight in model.tracked(layer, tensor))


def fresh_head_gradients(model: MusicModel, specification: Specification) -> "ProjectedHeadGradients":
    """Open "influence": gradients of heads that know only how often each code occurs, less shared directions.

    Raises:
        ModelError: the model's shared directions have another length than the specification's vectors.
    """
    return ProjectedHeadGradients(model, specification, fresh=True)


def own_head_gradients(model: MusicModel, specification: Specification) -> "ProjectedHeadGradients":
    """Open "head-gradient": gradients of the model's own output heads."""
    return ProjectedHeadGradients(model, specification, fresh=False)


class ProjectedHeadGradients:
    """Projected gradients of output heads, from a forward pass alone: the first codebook (P), the others (M).

    `fresh` replaces the model's own heads by heads that have learned only how often each code occurs; see
    `capture_heads`.
    """

    def __init__(self, model: MusicModel, specification: Specification, *, fresh: bool) -> None:
        self._model = model
        self._specification = specification
        self._fresh = fresh
        heads = model.heads()
        codebooks = {channel: codebooks_of(channel, model.n_codebooks) for channel in specification.layers}
        self._heads = [k for ks in codebooks.values() for k in ks]
        if fresh:
            # Fresh heads need no data, only shapes: the weights, and one more column for the biases.
            heads = tuple(nn.Parameter(torch.empty(C, D + 1, device="meta")) for C, D in (h.shape for h in heads))
        self.weights = [heads[k] for k in self._heads]
        self._projector: Project = Projector({c: [heads[k] for k in ks] for c, ks in codebooks.items()}, specification)
        self._shared: dict[Channel, Tensor] = {}
        if fresh:
            known = [channel for channel in codebooks if channel in model.statistics.shared]
            self._shared = {channel: _shared(model, channel, specification.dims[channel]) for channel in known}

    def capture(self, codes_BKT: Tensor, n_frames: list[int], heard_BT: Tensor) -> list[WeightCall]:
        specification = self._specification
        weights = tuple(specification.codebook_weights)
        return capture_heads(
            self._model,
            codes_BKT,
            n_frames,
            self._heads,
            weights,
            heard_BT=heard_BT,
            fresh=self._fresh,
            dtype=specification.torch_dtype,
        )

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        return self._projector(gradient_tiles(calls, rows, scales))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._projector(gradient.tiles())

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return {c: _without(self._shared.get(c), x_D) for c, x_D in sums.items()}


def _without(shared_Dr: Tensor | None, x_D: Tensor) -> Tensor:
    return x_D if shared_Dr is None else x_D - shared_Dr @ (shared_Dr.T @ x_D)


def _shared(model: MusicModel, channel: Channel, dims: int) -> Tensor:
    """Directions that the model's catalog has in common, float64 `[D, r]` on the model's device.

    `lumina_ray.model.statistics.shared_directions` measures them.
    """
    shared_Dr = model.statistics.shared[channel]
    if len(shared_Dr) != dims:
        raise ModelError(
            f"model {model.name!r}: its {STATISTICS_FILE} is for fingerprints of {len(shared_Dr)} numbers, not {dims}; "
            "make it again with `lumina statistics`"
        )
    return torch.from_numpy(shared_Dr).double().to(model.device)


class Projector:
    """Lays the gradients of each channel's weights end to end, and projects them to the channel's dimensions."""

    def __init__(
        self, weights_of_channel: Mapping[Channel, Sequence[nn.Parameter]], specification: Specification
    ) -> None:
        self._projections: dict[Channel, SparseProjection] = {}
        # For each weight: its channel, and the position in that channel's long vector at which it begins.
        self._places: list[tuple[Channel, int]] = []
        for channel, weights in weights_of_channel.items():
            begin = 0
            for weight in weights:
                self._places.append((channel, begin))
                begin += weight.numel()
            self._projections[channel] = SparseProjection(
                begin, specification.dims[channel], specification.nonzeros, specification.seed
            )

    def __call__(self, tiles: Iterable[Tile]) -> dict[Channel, Tensor]:
        """Project all tiles of a gradient: float64 `[D]` per channel, on the tiles' device."""
        out = {c: torch.zeros(projection.n_out, dtype=torch.float64) for c, projection in self._projections.items()}
        for tile in tiles:
            channel, begin = self._places[tile.parameter]
            begin += tile.first_row * tile.values.shape[1]
            out[channel] = out[channel].to(tile.values.device)
            self._projections[channel].add(out[channel], begin, tile.values)
        return out
