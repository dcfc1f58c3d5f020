"""A song's codes → one unit vector per channel."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint.channels import make_extraction
from lumina_ray.fingerprint.codes import SongCodes
from lumina_ray.fingerprint.specification import CHANNELS, Channel, Specification
from lumina_ray.model.interface import MusicModel


@dataclass(frozen=True)
class Fingerprint:
    """Vectors of one song.

    Attributes:
        vectors: per channel float32 `[D]`, of unit length (or all zero when the gradient is exactly zero).
        chunk_vectors: per channel float32 `[n, D]`, the same for each chunk alone; `[0, D]` unless asked for.
        chunk_weights: float64 `[n]`, each chunk's share of the song's valid codes; they add up to 1.
    """

    vectors: dict[Channel, np.ndarray]
    chunk_vectors: dict[Channel, np.ndarray]
    chunk_weights: np.ndarray


class Fingerprinter:
    """Makes fingerprints of one specification with one model.

    Chunks go through the model one at a time and are added in float64 in the order of the song, so a song's vector
    depends on nothing but its own codes: not on a batch, a worker or an order of songs.
    """

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        """Args: a model and a specification made for these very weights.

        Raises:
            SpecificationMismatch: the specification names other weights.
        """
        if specification.weights_sha256 != model.weights_sha256:
            raise SpecificationMismatch(
                f"the specification was made for weights {specification.weights_sha256[:12]}, "
                f"model {model.name!r} has weights {model.weights_sha256[:12]}; open the model it was made with"
            )
        self.model = model
        self.specification = specification
        self._chunk_frames = round(specification.chunk_s * model.frame_rate_hz)
        self._extraction = make_extraction(model, specification)

    def __call__(self, codes: SongCodes, *, per_chunk: bool = False) -> Fingerprint:
        """Fingerprint a song.

        Args:
            per_chunk: also give each chunk's own vectors, the evidence for what in a query drives a match.
        """
        K = self.model.n_codebooks
        weights = [sum(max(n - k, 0) for k in range(K)) for n in codes.frames]
        shares = np.array(weights, np.float64) / sum(weights)
        means: dict[Channel, list[Tensor]] = {}
        rows: dict[Channel, list[np.ndarray]] = {channel: [] for channel in CHANNELS}
        for chunk, share in zip(codes.chunks, shares.tolist(), strict=True):
            contribution = self._extraction.of_chunk(self._padded(chunk), chunk.shape[1])
            for channel, tensors in contribution.items():
                if per_chunk:
                    rows[channel].append(_unit(self._extraction.summarise(channel, tensors)))
                weighted = [share * tensor.double() for tensor in tensors]
                if channel in means:
                    torch._foreach_add_(means[channel], weighted)
                else:
                    means[channel] = weighted
        return Fingerprint(
            {c: _unit(self._extraction.summarise(c, means[c])) for c in CHANNELS},
            {c: np.array(rows[c], np.float32).reshape(-1, self.specification.dims[c]) for c in CHANNELS},
            shares,
        )

    def _padded(self, chunk_KT: np.ndarray) -> Tensor:
        # One shape for every chunk: kernels, and with them the last bits, can change with the shape.
        missing = self._chunk_frames - chunk_KT.shape[1]
        padded = np.pad(chunk_KT.astype(np.int64), ((0, 0), (0, missing)))
        return torch.from_numpy(padded).to(self.model.device)


def _unit(vector: Tensor) -> np.ndarray:
    norm = vector.norm()
    return (vector / norm if norm > 0 else vector).float().cpu().numpy()
