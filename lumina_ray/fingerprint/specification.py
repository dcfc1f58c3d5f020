"""The specification: everything that a fingerprint's numbers depend on besides the song.

Vectors of two specifications never meet in one index; its hash is how that is checked.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal, Self, get_args

import torch

from lumina_ray.audio import CHUNK_S, GATE_DBFS, MIN_TAIL_S
from lumina_ray.errors import ModelError, StoreError
from lumina_ray.model.interface import CONDITION_TEXT, TRACKED_TENSORS, MusicModel

Channel = Literal["P", "M"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
Kind = Literal["stats", "jl", "influence"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Dtype = Literal["float32", "bfloat16", "float16"]

# Changes whenever the same inputs would give other numbers.
ALGORITHM_VERSION = 3

# Channel bands as fractions of the model's depth: layers 42-47 and 12-17 of 48 (DESIGN §1.2).
_BANDS: dict[Channel, tuple[float, float]] = {"P": (0.875, 1.0), "M": (0.25, 0.375)}
_STATISTICS_PER_LAYER = 36
_JL_DIMS, _JL_SEED = 512, 422024
_INFLUENCE_DIMS, _INFLUENCE_SEED = 4096, 422024
_NONZEROS = 4
_PUBLISHED_CODEBOOK_WEIGHTS = (0.4, 1.2, 1.3, 1.4)
# Without a scale, a fifth of a gradient's elements vanish in float16. With this one none does, and the largest are
# still a thousand times below the largest float16.
_FLOAT16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Specification:
    """How a song becomes a vector. JSON-able; equal specifications have equal hashes.

    Attributes:
        kind: "stats" (LUMINA v8), "jl" (LUMINA v7) or "influence" (ours, DESIGN §1.6).
        weights_sha256: the model's weights.
        dims: fingerprint dimensions of each channel that is computed.
        layers: transformer layers of each channel; empty where output heads are used instead.
        codebook_weights: weights of the codebooks' losses; only their ratios matter.
        seed, nonzeros: of the sparse projection; 0 where nothing is projected.
        dtype: of the matrix products of the language model; float32 is the reference, the others run under autocast.
            The codec, the loss, positions, and all that is made of gradients stay in float32 or better.
        loss_scale: factor on the loss of the backward pass, taken out again in float32; a power of two.
    """

    kind: Kind
    weights_sha256: str
    dims: dict[Channel, int]
    layers: dict[Channel, list[int]]
    codebook_weights: list[float]
    seed: int
    nonzeros: int
    text: str = CONDITION_TEXT
    chunk_s: float = CHUNK_S
    min_tail_s: float = MIN_TAIL_S
    gate_dbfs: float = GATE_DBFS
    dtype: Dtype = "float32"
    loss_scale: float = 1.0
    loss: str = "mean over valid positions per codebook, weighted mean over codebooks, chunks by valid codes"
    algorithm_version: int = ALGORITHM_VERSION

    def __post_init__(self) -> None:
        if self.dtype == "float16" and self.kind != "influence" and self.loss_scale == 1.0:
            raise ValueError("gradients in float16 need a loss scale: a fifth of their elements would vanish")
        if math.frexp(self.loss_scale)[0] != 0.5:
            raise ValueError(f"the loss scale must be a power of two, got {self.loss_scale}")

    @classmethod
    def for_model(
        cls, model: MusicModel, kind: Kind, channels: tuple[Channel, ...] = CHANNELS, dtype: Dtype = "float32"
    ) -> Self:
        """The specification of one kind of fingerprint under one model.

        Raises:
            ModelError: the model is too shallow for two layer bands, or has other than 4 codebooks.
        """
        if model.n_codebooks != len(_PUBLISHED_CODEBOOK_WEIGHTS):
            raise ModelError(
                f"model {model.name!r} has {model.n_codebooks} codebooks; "
                f"MusicGen's {len(_PUBLISHED_CODEBOOK_WEIGHTS)} are needed"
            )
        layers: dict[Channel, list[int]]
        dims: dict[Channel, int]
        match kind:
            case "stats":
                layers = {c: band_layers(c, model.n_layers) for c in channels}
                dims = {c: _STATISTICS_PER_LAYER * len(layers[c]) for c in channels}
                seed, nonzeros = 0, 0
            case "jl":
                layers = {c: list(range(model.n_layers)) if c == "P" else [] for c in channels}
                dims = dict.fromkeys(channels, _JL_DIMS)
                seed, nonzeros = _JL_SEED, _NONZEROS
            case "influence":
                layers = {c: [] for c in channels}
                dims = dict.fromkeys(channels, _INFLUENCE_DIMS)
                seed, nonzeros = _INFLUENCE_SEED, _NONZEROS
        weights = [1.0] * model.n_codebooks if kind == "influence" else list(_PUBLISHED_CODEBOOK_WEIGHTS)
        loss_scale = _FLOAT16_LOSS_SCALE if dtype == "float16" and kind != "influence" else 1.0
        return cls(
            kind, model.weights_sha256, dims, layers, weights, seed, nonzeros, dtype=dtype, loss_scale=loss_scale
        )

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that are computed, P before M."""
        return tuple(c for c in CHANNELS if c in self.dims)

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict:
        return asdict(self) | {"tensors": list(TRACKED_TENSORS)}

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """The inverse of `to_dict`.

        Raises:
            StoreError: written by another version of this software.
        """
        try:
            specification = cls(**{name: value for name, value in values.items() if name != "tensors"})
        except TypeError as error:
            raise StoreError(f"a fingerprint specification of another software version: {error}") from error
        if specification.algorithm_version != ALGORITHM_VERSION:
            raise StoreError(
                f"fingerprints of algorithm version {specification.algorithm_version}, this software makes version "
                f"{ALGORITHM_VERSION}; fingerprint the catalog again (codes in the store are still good)"
            )
        return specification


def band_layers(channel: Channel, n_layers: int) -> list[int]:
    """The transformer layers of a channel in a model of any depth.

    Raises:
        ModelError: the band holds no layer.
    """
    low, high = _BANDS[channel]
    layers = list(range(math.ceil(low * n_layers), math.ceil(high * n_layers)))
    if not layers:
        raise ModelError(f"a model of {n_layers} layers has none in band [{low}, {high}) of channel {channel}")
    return layers
