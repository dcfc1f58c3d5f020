"""The specification: everything that a fingerprint's numbers depend on besides the song.

Vectors of two specifications never meet in one index; its hash is how that is checked.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

from lumina_ray.audio import CHUNK_S, GATE_DBFS, MIN_TAIL_S
from lumina_ray.errors import ModelError, StoreError
from lumina_ray.model.tracked import CONDITION_TEXT, TRACKED_TENSORS

if TYPE_CHECKING:
    import torch

    from lumina_ray.model import MusicModel

Channel = Literal["P", "M"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
Kind = Literal["influence", "stats", "jl", "head-gradient", "gradient", "logra", "factgrass", "tokens"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Dtype = Literal["float32", "bfloat16", "float16"]

# Changes whenever the same inputs would give other numbers, or more of them.
ALGORITHM_VERSION = 6

# Channel bands as fractions of the model's depth: layers 42-47 and 12-17 of 48 (DESIGN §1.2).
_BANDS: dict[Channel, tuple[float, float]] = {"P": (0.875, 1.0), "M": (0.25, 0.375)}
_STATISTICS_PER_LAYER = 36
_JL_DIMS = 512
# As many numbers as an index should have to hold of a song and channel.
_MAX_DIMS = 4096
_SEED, _NONZEROS = 422024, 4
# Kinds that need no backward pass, and so no loss that is scaled.
_WITHOUT_BACKWARD: frozenset[Kind] = frozenset({"influence", "head-gradient", "tokens"})
# Kinds whose recipe was published for another loss than the one that models are trained on.
_WITH_CODEBOOK_WEIGHTS: frozenset[Kind] = frozenset({"stats", "jl"})
_PUBLISHED_CODEBOOK_WEIGHTS = (0.4, 1.2, 1.3, 1.4)
# Without a scale, a fifth of a gradient's elements vanish in float16. With this one none does, and the largest are
# still a thousand times below the largest float16.
_FLOAT16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Specification:
    """How a song becomes a vector. JSON-able; equal specifications have equal hashes.

    Attributes:
        kind: "influence" (ours), "stats" (LUMINA v8), "jl" (LUMINA v7), "head-gradient" (of the output heads alone),
            "gradient" (projected whole), "logra", "factgrass" (projected tensor by tensor), "tokens" (of codes alone).
        weights_sha256: the model's weights.
        dims: fingerprint dimensions of each channel that is computed.
        layers: transformer layers of each channel; empty where output heads or codes are used instead.
        codebook_weights: weights of the codebooks' losses; only their ratios matter.
        seed, nonzeros: of the projection and its sparse matrices; 0 where nothing is projected, or none is sparse.
        statistics_sha256: the model's `MusicStatistics`, where the fingerprint depends on them; else empty.
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
    statistics_sha256: str = ""
    text: str = CONDITION_TEXT
    chunk_s: float = CHUNK_S
    min_tail_s: float = MIN_TAIL_S
    gate_dbfs: float = GATE_DBFS
    dtype: Dtype = "float32"
    loss_scale: float = 1.0
    loss: str = "mean over valid positions per codebook, weighted mean over codebooks, chunks by valid codes"
    algorithm_version: int = ALGORITHM_VERSION

    def __post_init__(self) -> None:
        if self.dtype == "float16" and self.kind not in _WITHOUT_BACKWARD and self.loss_scale == 1.0:
            raise ValueError("gradients in float16 need a loss scale: a fifth of their elements would vanish")
        if math.frexp(self.loss_scale)[0] != 0.5:
            raise ValueError(f"the loss scale must be a power of two, got {self.loss_scale}")

    @classmethod
    def for_model(
        cls, model: "MusicModel", kind: Kind, channels: tuple[Channel, ...] = CHANNELS, dtype: Dtype = "float32"
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
        layers = {c: _layers(kind, c, model.n_layers) for c in channels}
        dims = {c: fingerprint_dims(kind, c, model.n_layers, model.n_codebooks, model.codebook_size) for c in channels}
        match kind:
            case "stats":
                seed, nonzeros = 0, 0
            case "tokens":
                projected = any(dims[c] < _n_codes(c, model.n_codebooks, model.codebook_size) for c in channels)
                seed, nonzeros = (_SEED, _NONZEROS) if projected else (0, 0)
            case "logra":
                seed, nonzeros = _SEED, 0
            case "factgrass":
                seed, nonzeros = _SEED, 1
            case "jl" | "gradient" | "head-gradient" | "influence":
                seed, nonzeros = _SEED, _NONZEROS
        weights = list(_PUBLISHED_CODEBOOK_WEIGHTS) if kind in _WITH_CODEBOOK_WEIGHTS else [1.0] * model.n_codebooks
        loss_scale = _FLOAT16_LOSS_SCALE if dtype == "float16" and kind not in _WITHOUT_BACKWARD else 1.0
        return cls(
            kind,
            model.weights_sha256,
            dims,
            layers,
            weights,
            seed,
            nonzeros,
            statistics_sha256=model.statistics.sha256 if kind == "influence" else "",
            dtype=dtype,
            loss_scale=loss_scale,
        )

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that are computed, P before M."""
        return tuple(c for c in CHANNELS if c in self.dims)

    def blocks(self, channel: Channel) -> int:
        """Equal pieces of a channel's vector that are each made of one tensor; 1 where all went into each number."""
        return len(TRACKED_TENSORS) * len(self.layers[channel]) if self.kind in {"logra", "factgrass"} else 1

    @property
    def torch_dtype(self) -> "torch.dtype":
        import torch

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


def fingerprint_dims(kind: Kind, channel: Channel, n_layers: int, n_codebooks: int, codebook_size: int) -> int:
    """How many numbers a channel's fingerprint has under a model of that shape.

    Raises:
        ModelError: the channel's band holds no layer.
    """
    match kind:
        case "stats":
            return _STATISTICS_PER_LAYER * len(band_layers(channel, n_layers))
        case "jl":
            return _JL_DIMS
        case "gradient" | "head-gradient" | "influence":
            return _MAX_DIMS
        case "tokens":
            return min(_n_codes(channel, n_codebooks, codebook_size), _MAX_DIMS)
        case "logra":
            n_tensors = len(TRACKED_TENSORS) * len(band_layers(channel, n_layers))
            return n_tensors * math.isqrt(_MAX_DIMS // n_tensors) ** 2
        case "factgrass":
            n_tensors = len(TRACKED_TENSORS) * len(band_layers(channel, n_layers))
            return n_tensors * (_MAX_DIMS // n_tensors)


def _layers(kind: Kind, channel: Channel, n_layers: int) -> list[int]:
    match kind:
        case "stats" | "gradient" | "logra" | "factgrass":
            return band_layers(channel, n_layers)
        case "jl":
            return list(range(n_layers)) if channel == "P" else []
        case "influence" | "head-gradient" | "tokens":
            return []


def _n_codes(channel: Channel, n_codebooks: int, codebook_size: int) -> int:
    return codebook_size * (1 if channel == "P" else n_codebooks - 1)
