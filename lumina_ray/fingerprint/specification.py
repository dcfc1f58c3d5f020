"""The specification: everything that a fingerprint's numbers depend on besides the song.

Vectors of two specifications never meet in one index; its hash is how that is checked.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from math import ceil
from typing import Literal, Self, get_args

from lumina_ray.audio import CHUNK_S, GATE_DBFS, MIN_TAIL_S
from lumina_ray.errors import ModelError, StoreError
from lumina_ray.model.interface import CONDITION_TEXT, TRACKED_TENSORS, MusicModel

Channel = Literal["P", "M"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
Kind = Literal["stats", "jl", "influence"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Changes whenever the same inputs would give other numbers.
ALGORITHM_VERSION = 1

# Channel bands as fractions of the model's depth: layers 42-47 and 12-17 of 48 (DESIGN §1.2).
_BANDS: dict[Channel, tuple[float, float]] = {"P": (0.875, 1.0), "M": (0.25, 0.375)}
_STATISTICS_PER_LAYER = 36
_JL_DIMS, _JL_SEED = 512, 422024
_INFLUENCE_DIMS, _INFLUENCE_SEED = 4096, 422024
_NONZEROS = 4
_PUBLISHED_CODEBOOK_WEIGHTS = (0.4, 1.2, 1.3, 1.4)


@dataclass(frozen=True)
class Specification:
    """How a song becomes a vector. JSON-able; equal specifications have equal hashes.

    Attributes:
        kind: "stats" (LUMINA v8), "jl" (LUMINA v7) or "influence" (ours, DESIGN §1.6).
        weights_sha256: the model's weights.
        dims: fingerprint dimensions of each channel.
        layers: transformer layers of each channel; empty where output heads are used instead.
        codebook_weights: weights of the codebooks' losses; only their ratios matter.
        seed, nonzeros: of the sparse projection; 0 where nothing is projected.
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
    dtype: str = "float32"
    loss: str = "mean over valid positions per codebook, weighted mean over codebooks, chunks by valid codes"
    algorithm_version: int = ALGORITHM_VERSION

    @classmethod
    def for_model(cls, model: MusicModel, kind: Kind) -> Self:
        """The specification of one kind of fingerprint under one model.

        Raises:
            ModelError: the model is too shallow for two layer bands, or has other than 4 codebooks.
        """
        if model.n_codebooks != len(_PUBLISHED_CODEBOOK_WEIGHTS):
            raise ModelError(
                f"model {model.name!r} has {model.n_codebooks} codebooks; "
                f"MusicGen's {len(_PUBLISHED_CODEBOOK_WEIGHTS)} are needed"
            )
        weights = list(_PUBLISHED_CODEBOOK_WEIGHTS)
        match kind:
            case "stats":
                layers: dict[Channel, list[int]] = {c: band_layers(c, model.n_layers) for c in CHANNELS}
                dims: dict[Channel, int] = {c: _STATISTICS_PER_LAYER * len(layers[c]) for c in CHANNELS}
                return cls(kind, model.weights_sha256, dims, layers, weights, seed=0, nonzeros=0)
            case "jl":
                layers = {"P": list(range(model.n_layers)), "M": []}
                dims = {"P": _JL_DIMS, "M": _JL_DIMS}
                return cls(kind, model.weights_sha256, dims, layers, weights, _JL_SEED, _NONZEROS)
            case "influence":
                dims = {"P": _INFLUENCE_DIMS, "M": _INFLUENCE_DIMS}
                uniform = [1.0] * model.n_codebooks
                return cls(kind, model.weights_sha256, dims, {"P": [], "M": []}, uniform, _INFLUENCE_SEED, _NONZEROS)

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
    layers = list(range(ceil(low * n_layers), ceil(high * n_layers)))
    if not layers:
        raise ModelError(f"a model of {n_layers} layers has none in band [{low}, {high}) of channel {channel}")
    return layers
