"""What each kind of fingerprint takes from a chunk, per channel, and how a song's sum of it becomes a vector.

Every kind has two steps with the mean over a song's chunks between them: `of_chunk` gives tensors that can be averaged
(gradients, or projections of gradients, which are linear), `summarise` makes the vector. For the projected kinds the
second step does nothing; for `stats` it must come after the mean, as statistics are not linear.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.fingerprint.specification import CHANNELS, Channel, Specification
from lumina_ray.fingerprint.statistics import tensor_statistics
from lumina_ray.gradients import chunk_gradients, freeze_all_but, head_gradients
from lumina_ray.model.interface import TRACKED_TENSORS, MusicModel, TrackedTensor

# They write into the residual stream, whose gradient sums to zero over features because every path to the loss goes
# through a layer norm: the mean of their gradients is zero by construction.
_ZERO_MEAN: frozenset[TrackedTensor] = frozenset({"self_out_proj", "cross_out_proj", "linear2"})


class Extraction(Protocol):
    """One kind of fingerprint over one model."""

    def of_chunk(self, codes_KT: Tensor, n_frames: int) -> dict[Channel, list[Tensor]]:
        """What a chunk contributes to each channel; int64 codes `[K, T]`, the first `n_frames` of them real."""
        ...

    def summarise(self, channel: Channel, tensors: Sequence[Tensor]) -> Tensor:
        """Float64 `[D]` of a weighted mean of such contributions."""
        ...


def make_extraction(model: MusicModel, specification: Specification) -> Extraction:
    """The extraction that a specification asks for; freezes and unfreezes the model's parameters for it."""
    match specification.kind:
        case "stats":
            return _Statistics(model, specification)
        case "jl":
            return _ProjectedGradients(model, specification)
        case "influence":
            return _ProjectedHeadGradients(model, specification)


class _Statistics:
    """Six statistics of six tensors in each layer of the band (LUMINA v8)."""

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        self._model = model
        self._weights = tuple(specification.codebook_weights)
        self._groups = {
            channel: [
                (tensor in _ZERO_MEAN, model.tracked(layer, tensor))
                for layer in specification.layers[channel]
                for tensor in TRACKED_TENSORS
            ]
            for channel in CHANNELS
        }
        self._tracked = [p for channel in CHANNELS for _, group in self._groups[channel] for p in group]
        freeze_all_but(model, self._tracked)

    def of_chunk(self, codes_KT: Tensor, n_frames: int) -> dict[Channel, list[Tensor]]:
        gradients = iter(chunk_gradients(self._model, codes_KT, n_frames, self._tracked, self._weights))
        return {c: [next(gradients) for _, group in self._groups[c] for _ in group] for c in CHANNELS}

    def summarise(self, channel: Channel, tensors: Sequence[Tensor]) -> Tensor:
        remaining = iter(tensors)
        values: list[float] = []
        for zero_mean, group in self._groups[channel]:
            values += tensor_statistics([next(remaining) for _ in group], zero_mean=zero_mean)
        return torch.tensor(values, dtype=torch.float64)


class _ProjectedGradients:
    """Projected gradients of self-attention (P) and of the output heads (M) (LUMINA v7)."""

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        self._model = model
        self._weights = tuple(specification.codebook_weights)
        attention: tuple[TrackedTensor, ...] = ("self_in_proj", "self_out_proj")
        self._tracked = {
            "P": [
                p for layer in specification.layers["P"] for tensor in attention for p in model.tracked(layer, tensor)
            ],
            "M": list(model.heads()),
        }
        self._projections = {
            channel: _projection(sum(p.numel() for p in self._tracked[channel]), channel, specification)
            for channel in CHANNELS
        }
        self._all = self._tracked["P"] + self._tracked["M"]
        freeze_all_but(model, self._all)

    def of_chunk(self, codes_KT: Tensor, n_frames: int) -> dict[Channel, list[Tensor]]:
        gradients = chunk_gradients(self._model, codes_KT, n_frames, self._all, self._weights)
        n_p = len(self._tracked["P"])
        return {"P": [self._projections["P"](gradients[:n_p])], "M": [self._projections["M"](gradients[n_p:])]}

    def summarise(self, channel: Channel, tensors: Sequence[Tensor]) -> Tensor:
        (projected,) = tensors
        return projected


class _ProjectedHeadGradients:
    """Projected gradients of the output heads from a forward pass alone: the first codebook's (P), the others' (M).

    The first codebook of a residual quantiser carries what the song is, melody and harmony among it; the others refine
    how it sounds. That makes them the natural proxies of composition and production until ground truth says better.
    """

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        self._model = model
        size = model.codebook_size * model.dim
        total = sum(specification.codebook_weights)
        self._weights = [weight / total for weight in specification.codebook_weights]
        self._projections = {
            "P": _projection(size, "P", specification),
            "M": _projection(size * (model.n_codebooks - 1), "M", specification),
        }
        freeze_all_but(model, [])

    def of_chunk(self, codes_KT: Tensor, n_frames: int) -> dict[Channel, list[Tensor]]:
        with torch.no_grad():
            prediction = self._model.predict(codes_KT[None], [n_frames])
            heads = head_gradients(prediction, codes_KT)
            weighted = [weight * head for weight, head in zip(self._weights, heads, strict=True)]
            return {"P": [self._projections["P"](weighted[:1])], "M": [self._projections["M"](weighted[1:])]}

    def summarise(self, channel: Channel, tensors: Sequence[Tensor]) -> Tensor:
        (projected,) = tensors
        return projected


def _projection(n_in: int, channel: Channel, specification: Specification) -> SparseProjection:
    return SparseProjection(n_in, specification.dims[channel], specification.nonzeros, specification.seed)
