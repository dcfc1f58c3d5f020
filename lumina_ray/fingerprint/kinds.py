"""The kinds of fingerprint, one row each: what a kind is made of, how many numbers it has, and what it costs.

A new kind is one row here. Where no existing extraction fits it, it is also one module with an extraction.
This module does not import torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from lumina_ray.embedding.table import EMBEDDERS, EmbedderRow
from lumina_ray.errors import ModelError, UsageError
from lumina_ray.model.tracked import ROLES
from lumina_ray.vocabulary import Channel, Kind, Representation, RepresentationName

# Bands of layers, as fractions of the model's depth: layers 42-47 (P) and 12-17 (M) of 48.
_BANDS: dict[Channel, tuple[float, float]] = {"P": (0.875, 1.0), "M": (0.25, 0.375)}
_STATISTICS_PER_TENSOR = 6
_JL_DIMS = 512
# An index holds this many numbers per song and channel at most: 16 kB in float32.
_MAX_DIMS = 4096
_SEED, _NONZEROS = 422024, 4


class ModelShape(Protocol):
    """The sizes of a model that decide how long its fingerprints are; every `AttributableModel` has them."""

    @property
    def n_layers(self) -> int: ...
    @property
    def representation(self) -> Representation: ...


@dataclass(frozen=True)
class FingerprintKind:
    """One kind of fingerprint.

    Attributes:
        summary: one line that describes the kind to people.
        needs: how the model is run: not at all ("codes"), only its codec, forward, or forward and backward.
        extraction: where the extraction is found, as `module:name`; it is called with a model and a specification.
        layers: function of a channel and a number of layers; returns the layers that are tracked. The list is empty
            where output heads or codes are used instead.
        dims: function of a channel and a model's sizes; returns how many numbers the channel's vector has.
        projects: function of a channel and a model's sizes; says whether the channel is projected, and therefore
            depends on the seed and on `nonzeros`.
        nonzeros: non-zero entries in each column of a sparse projection; 0 where projections are dense.
        published_loss: whether the loss weights the codebooks as LUMINA published it; otherwise they weigh the same.
        loss: what is differentiated, in words, or what stands in place of a loss; empty where it is the model's own.
        uses_music_statistics: whether the fingerprint depends on the model's `MusicStatistics`.
        uses_fisher: whether it depends on the model's `Fisher` information.
        uses_companion: whether it depends on the model's `Companions`.
        by_tensor: whether the vector consists of equal pieces that are each made of one tensor.
        whole_chunks: whether a chunk has one vector, so that no half of it has a vector of its own.
        embedder: name of what makes the vectors, where the model does not; its weights then decide their length.
    """

    summary: str
    needs: Literal["codes", "codec", "forward", "backward"]
    extraction: str
    layers: Callable[[Channel, int], list[int]]
    dims: Callable[[Channel, ModelShape], int]
    projects: Callable[[Channel, ModelShape], bool] = lambda _channel, _shape: True
    nonzeros: int = _NONZEROS
    published_loss: bool = False
    loss: str = ""
    uses_music_statistics: bool = False
    uses_fisher: bool = False
    uses_companion: bool = False
    by_tensor: bool = False
    whole_chunks: bool = False
    embedder: str = ""

    @property
    def runs_language_model(self) -> bool:
        """Whether vectors depend on what the model learned; those that do not are floors, and baselines."""
        return self.needs in ("forward", "backward")

    def projection(self, channels: tuple[Channel, ...], shape: ModelShape) -> tuple[int, int]:
        """Seed and nonzeros of the projection; both are 0 where no channel is projected."""
        return (_SEED, self.nonzeros) if any(self.projects(c, shape) for c in channels) else (0, 0)

    def blocks(self, n_layers: int, representation: RepresentationName = "codes") -> int:
        """Number of equal pieces of a vector that are each made of one tensor; 1 where every number mixes tensors.

        Args:
            n_layers: how many layers the vector is made of.
            representation: of the model, which decides how many tensors a layer has.
        """
        return len(ROLES[representation]) * n_layers if self.by_tensor else 1


def band_layers(channel: Channel, n_layers: int) -> list[int]:
    """The transformer layers of a channel's band, in a model with `n_layers` layers.

    Raises:
        ModelError: the model is too shallow, so that the band holds no layer.
    """
    low, high = _BANDS[channel]
    layers = list(range(math.ceil(low * n_layers), math.ceil(high * n_layers)))
    if not layers:
        raise ModelError(f"a model of {n_layers} layers has none in band [{low}, {high}) of channel {channel}")
    return layers


def companion_layer(n_layers: int) -> int:
    """The layer whose second feed-forward matrix `companion` looks at, the middle one; counted from 0."""
    return n_layers // 2


def find_kind(name: Kind, representation: RepresentationName = "codes") -> FingerprintKind:
    """The row of a kind, for models that write music down in codes or in latents.

    Raises:
        UsageError: there is no such kind, or none for such models.
    """
    kinds = KINDS_OF[representation]
    if name in kinds:
        return kinds[name]
    if name in KIND_NAMES:
        raise UsageError(
            f"there is no fingerprint {name!r} of {representation}; for this model it must be one of {', '.join(kinds)}"
        )
    raise UsageError(f"there is no fingerprint {name!r}; it must be one of {', '.join(KIND_NAMES)}")


def _no_layers(_channel: Channel, _n_layers: int) -> list[int]:
    return []


def _self_attention_layers(channel: Channel, n_layers: int) -> list[int]:
    return list(range(n_layers)) if channel == "P" else []


def _n_codes(channel: Channel, shape: ModelShape) -> int:
    return shape.representation.size * (1 if channel == "P" else shape.representation.rows - 1)


def _n_tensors(channel: Channel, shape: ModelShape) -> int:
    return len(ROLES[shape.representation.name]) * len(band_layers(channel, shape.n_layers))


def _logra_dims(channel: Channel, shape: ModelShape) -> int:
    # Each tensor is projected to a square: the largest one for which all tensors fit into the limit.
    n_tensors = _n_tensors(channel, shape)
    return n_tensors * math.isqrt(_MAX_DIMS // n_tensors) ** 2


def _factgrass_dims(channel: Channel, shape: ModelShape) -> int:
    n_tensors = _n_tensors(channel, shape)
    return n_tensors * (_MAX_DIMS // n_tensors)


_EXTRACTIONS = "lumina_ray.fingerprint"
CODEC_MODULES = 16
"""Top-level modules of an EnCodec of four resolutions: of its encoder, and of its decoder."""


def _embedding(row: EmbedderRow) -> FingerprintKind:
    return FingerprintKind(
        f"mean {row.name} embedding of the audio that the codes stand for (a baseline)",
        needs="codec",
        extraction=f"{_EXTRACTIONS}.embeddings:Embeddings",
        layers=_no_layers,
        dims=lambda _channel, _shape: row.dims,
        projects=lambda _channel, _shape: False,
        whole_chunks=True,
        embedder=row.name,
        loss=row.reading,
    )


_EMBEDDINGS = {f"embedding:{name}": _embedding(row) for name, row in EMBEDDERS.items()}

KINDS: dict[Kind, FingerprintKind] = {
    "influence": FingerprintKind(
        "gradients of fresh output heads, less what the model's catalog has in common (ours)",
        needs="forward",
        extraction=f"{_EXTRACTIONS}.channels:fresh_head_gradients",
        layers=_no_layers,
        dims=lambda _channel, _shape: _MAX_DIMS,
        uses_music_statistics=True,
    ),
    "stats": FingerprintKind(
        "six statistics of each tensor's gradient in each layer of a band (LUMINA v8)",
        needs="backward",
        extraction=f"{_EXTRACTIONS}.channels:GradientStatistics",
        layers=band_layers,
        dims=lambda channel, shape: _STATISTICS_PER_TENSOR * _n_tensors(channel, shape),
        projects=lambda _channel, _shape: False,
        published_loss=True,
    ),
    "jl": FingerprintKind(
        "projected gradients of self-attention (P) and of the output heads (M) (LUMINA v7)",
        needs="backward",
        extraction=f"{_EXTRACTIONS}.channels:attention_and_head_gradients",
        layers=_self_attention_layers,
        dims=lambda _channel, _shape: _JL_DIMS,
        published_loss=True,
    ),
    "head-gradient": FingerprintKind(
        "projected gradients of the model's own output heads",
        needs="forward",
        extraction=f"{_EXTRACTIONS}.channels:own_head_gradients",
        layers=_no_layers,
        dims=lambda _channel, _shape: _MAX_DIMS,
    ),
    "fisher": FingerprintKind(
        "projected gradients of the model's own output heads in the metric of its Fisher information (unlearning)",
        needs="forward",
        extraction=f"{_EXTRACTIONS}.fisher_gradients:FisherHeadGradients",
        layers=_no_layers,
        dims=lambda _channel, _shape: _MAX_DIMS,
        uses_fisher=True,
    ),
    "companion": FingerprintKind(
        "whitened gradients of the model and of earlier models, side by side (ours)",
        needs="backward",
        extraction=f"{_EXTRACTIONS}.companion_gradients:CompanionGradients",
        layers=lambda _channel, n_layers: [companion_layer(n_layers)],
        dims=lambda _channel, _shape: _MAX_DIMS,
        uses_companion=True,
    ),
    "gradient": FingerprintKind(
        "projected gradients of all tensors in each layer of a band",
        needs="backward",
        extraction=f"{_EXTRACTIONS}.channels:band_gradients",
        layers=band_layers,
        dims=lambda _channel, _shape: _MAX_DIMS,
    ),
    "logra": FingerprintKind(
        "each tensor's gradient, projected from both sides (LoGra)",
        needs="backward",
        extraction=f"{_EXTRACTIONS}.sketches:LoGra",
        layers=band_layers,
        dims=_logra_dims,
        nonzeros=0,
        by_tensor=True,
    ),
    "factgrass": FingerprintKind(
        "each tensor's gradient, sampled from both sides and projected (FactGraSS)",
        needs="backward",
        extraction=f"{_EXTRACTIONS}.sketches:FactGrass",
        layers=band_layers,
        dims=_factgrass_dims,
        nonzeros=1,
        by_tensor=True,
    ),
    "tokens": FingerprintKind(
        "histograms of codes; the model is never run (a floor)",
        needs="codes",
        extraction=f"{_EXTRACTIONS}.tokens:TokenHistograms",
        layers=_no_layers,
        dims=lambda channel, shape: min(_n_codes(channel, shape), _MAX_DIMS),
        projects=lambda channel, shape: _n_codes(channel, shape) > _MAX_DIMS,
    ),
    "codec-activations": FingerprintKind(
        "six statistics of each module of the codec: encoder (P), decoder (M) (LUMINA before v7, as we read it)",
        needs="codec",
        extraction=f"{_EXTRACTIONS}.codec_activations:CodecActivations",
        layers=_no_layers,
        dims=lambda _channel, _shape: _STATISTICS_PER_TENSOR * CODEC_MODULES,
        projects=lambda _channel, _shape: False,
        whole_chunks=True,
        loss="no loss: statistics of the codec's activations, by frames with sound",
    ),
    **_EMBEDDINGS,
}
"""Every kind of codes by its name."""

_ALSO_OF_LATENTS = ("stats", "jl", "gradient", "logra", "factgrass")
KINDS_OF: dict[RepresentationName, dict[Kind, FingerprintKind]] = {
    "codes": KINDS,
    # Rows of latents have no published weights: they count the same.
    "latents": {name: replace(KINDS[name], published_loss=False) for name in _ALSO_OF_LATENTS}
    | {
        "fisher": FingerprintKind(
            "projected gradients of all tensors in a band, in the metric of Fisher information (unlearning)",
            needs="backward",
            extraction=f"{_EXTRACTIONS}.fisher_gradients:FisherBandGradients",
            layers=band_layers,
            dims=lambda _channel, _shape: _MAX_DIMS,
            uses_fisher=True,
        ),
        "head-gradient": FingerprintKind(
            "projected gradients of the output layers alone: the last linear one (P), the convolution after it (M)",
            needs="backward",
            extraction=f"{_EXTRACTIONS}.channels:output_gradients",
            layers=_no_layers,
            dims=lambda _channel, _shape: _MAX_DIMS,
        ),
        "d-trak": FingerprintKind(
            "projected gradients of all tensors in a band, of the predicted velocity's square (after D-TRAK)",
            needs="backward",
            extraction=f"{_EXTRACTIONS}.prediction_gradients:PredictionGradients",
            layers=band_layers,
            dims=lambda _channel, _shape: _MAX_DIMS,
            loss="square of the predicted velocity, mean over draws and valid frames, mean over rows, chunks by frames",
        ),
    }
    | _EMBEDDINGS,
}
"""The kinds that models have which write music down in codes, or in latents."""

KIND_NAMES: tuple[Kind, ...] = tuple(dict.fromkeys(name for kinds in KINDS_OF.values() for name in kinds))
"""The names of all kinds."""

DEFAULT_KIND: dict[RepresentationName, Kind] = {"codes": "influence", "latents": "gradient"}
"""The kind that a model gets which comes with nothing that a better one takes (docs/validity.md, docs/diffusion.md)."""
