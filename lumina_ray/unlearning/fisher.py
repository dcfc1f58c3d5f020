"""Measures diagonal Fisher information over a catalog, by sums that do not depend on any order.

`F_j = Σ_c n_c g_cj² / Σ_c n_c` over all chunks c of all songs, for the gradient g_c of the chunk's loss and the number
n_c of its valid codes.

A sum of floating-point numbers depends on the order of its terms. Here each term is cut to a whole number of 2⁻⁸² and
added in integers, which is exact, and so the same in any order and any grouping: on one worker or on many, before an
interruption or after it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lumina_ray.errors import NumericsError, UnlearningError
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.interface import AttributableModel
from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.unlearning.losses import chunk_gradients
from lumina_ray.unlearning.select import Part, named_tensors, select_parts
from lumina_ray.vocabulary import RepresentationName, SongCodes

# Bits after the binary point in the high and in the low integer: multiples of 2⁻³⁰, and what is left, of 2⁻⁸².
_HIGH, _LOW = 30, 52
# The largest term whose multiple of 2⁻³⁰ fits into 63 bits with room for a carry.
_LARGEST = 2.0**32


_LOSSES: dict[RepresentationName, str] = {
    "codes": "mean over valid codes with sound in each codebook, mean over codebooks, chunks by valid codes",
    "latents": "squared error of the velocity, mean over draws and frames with sound, chunks by frames",
}


def fisher_specification(model: AttributableModel) -> dict[str, str | int]:
    """Everything besides weights and songs that the numbers depend on."""
    representation, draws = model.representation, model.draws
    of_draws = {} if draws is None else {"draws": draws.count, "draws_seed": draws.seed}
    specification: dict[str, str | int] = {
        "loss": _LOSSES[representation.name],
        "text": CONDITION_TEXT,
        "n_codebooks": representation.rows,
        "codebook_size": representation.size,
    }
    return specification | of_draws


@dataclass(eq=False)
class ExactSum:
    """A sum of non-negative float64 numbers, element by element, that does not depend on the order of its terms.

    The sum is `high · 2⁻³⁰ + low · 2⁻⁸²`. Terms are cut to a whole number of 2⁻⁸² = 2·10⁻²⁵.

    Attributes:
        high, low: int64 tensors of one shape; 0 ≤ low < 2⁵².
    """

    high: Tensor
    low: Tensor

    @classmethod
    def zeros(cls, shape: Sequence[int], device: torch.device | str = "cpu") -> Self:
        """Make an empty sum."""
        return cls(*(torch.zeros(tuple(shape), dtype=torch.int64, device=device) for _ in range(2)))

    def add(self, values: Tensor, at: slice = slice(None)) -> None:
        """Add a term, float64, to some rows.

        Raises:
            NumericsError: a number is negative, not finite, or too large to be exact.
        """
        if not bool(((values >= 0) & (values <= _LARGEST)).all()):
            raise NumericsError("squared gradients are not finite, or too large to add exactly; check the weights")
        scaled = values * 2.0**_HIGH
        whole = scaled.floor()
        # Subtraction and scaling by a power of two are exact; only what lies below 2⁻⁸² is cut.
        rest = ((scaled - whole) * 2.0**_LOW).floor()
        self._carry(whole.to(torch.int64), rest.to(torch.int64), at)

    def merge(self, other: "ExactSum") -> None:
        """Add another sum of the same shape."""
        self._carry(other.high, other.low, slice(None))

    def _carry(self, high: Tensor, low: Tensor, at: slice) -> None:
        total = self.low[at] + low
        self.high[at] += high + (total >> _LOW)
        self.low[at] = total & ((1 << _LOW) - 1)
        if bool((self.high[at] < 0).any()):
            raise NumericsError("a sum of squared gradients is too large to be exact; check the weights")

    def value(self) -> np.ndarray:
        """The sum as float64, rounded once or twice; the same for equal sums."""
        high, low = self.high.cpu().numpy(), self.low.cpu().numpy()
        return high.astype(np.float64) * 2.0**-_HIGH + low.astype(np.float64) * 2.0 ** -(_HIGH + _LOW)


@dataclass(eq=False)
class FisherSum:
    """Squared gradients of some of a catalog's songs, added up exactly.

    Attributes:
        sums: by name of a tensor.
        n_codes: valid codes of all chunks.
        n_chunks: chunks that were added.
        songs: hashes of the songs' codes.
        weights_sha256: hash of the model's weights.
        specification: see `fisher_specification`.
    """

    sums: dict[str, ExactSum]
    weights_sha256: str
    specification: Mapping[str, str | int]
    n_codes: int = 0
    n_chunks: int = 0
    songs: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, model: AttributableModel) -> Self:
        """Start the sum of a model's gradients with no song."""
        sums = {
            name: ExactSum.zeros((sum(len(piece) for piece in pieces), *pieces[0].shape[1:]), model.device)
            for name, pieces in named_tensors(model).items()
        }
        return cls(sums, model.weights_sha256, fisher_specification(model))

    def add(self, model: AttributableModel, codes: SongCodes, parts: Sequence[Part] | None = None) -> None:
        """Add a song.

        Args:
            parts: all of the model's, if they are known already.
        """
        parts = select_parts(model, "all") if parts is None else parts
        for n_codes, gradients in chunk_gradients(model, codes, parts):
            for part, gradient in zip(parts, gradients, strict=True):
                self.sums[part.name].add(gradient.double().square_().mul_(n_codes), part.at)
            self.n_codes += n_codes
            self.n_chunks += 1
        self.songs.append(codes.sha256)

    def merge(self, other: "FisherSum") -> None:
        """Add the songs of another sum of the same model."""
        if other.weights_sha256 != self.weights_sha256 or other.sums.keys() != self.sums.keys():
            raise ValueError("sums of two models")
        for name, total in self.sums.items():
            total.merge(other.sums[name])
        self.n_codes += other.n_codes
        self.n_chunks += other.n_chunks
        self.songs += other.songs

    def finish(self) -> Fisher:
        """Divide by the number of codes.

        Raises:
            UnlearningError: no chunk was added.
        """
        if not self.n_chunks:
            raise UnlearningError("Fisher information needs songs with sound, and there are none; check the store")
        return Fisher(
            {name: (total.value() / self.n_codes).astype(np.float32) for name, total in self.sums.items()},
            self.weights_sha256,
            hashlib.sha256("\n".join(sorted(self.songs)).encode()).hexdigest(),
            len(self.songs),
            self.n_chunks,
            self.specification,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays, for a file or another process."""
        record = np.array([self.n_codes, self.n_chunks], np.int64)
        arrays = {"counts": record, "songs": np.array(self.songs, "U64")}
        for name, total in self.sums.items():
            arrays |= {f"{name}/high": total.high.cpu().numpy(), f"{name}/low": total.low.cpu().numpy()}
        return arrays

    @staticmethod
    def merged_arrays(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add two results of `to_arrays`; the model is not needed."""
        out = {
            "songs": np.concatenate([one["songs"], other["songs"]]),
            "counts": one["counts"] + other["counts"],
        }
        for name in (key.removesuffix("/high") for key in one if key.endswith("/high")):
            # Tensors of their own: arrays from another process may not be written to.
            total = ExactSum(*(torch.tensor(one[f"{name}/{half}"]) for half in ("high", "low")))
            total.merge(ExactSum(*(torch.tensor(other[f"{name}/{half}"]) for half in ("high", "low"))))
            out |= {f"{name}/high": total.high.numpy(), f"{name}/low": total.low.numpy()}
        return out

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add what `to_arrays` gave of a sum of the same model."""
        for name, total in self.sums.items():
            other = (torch.tensor(arrays[f"{name}/{half}"]).to(total.high.device) for half in ("high", "low"))
            total.merge(ExactSum(*other))
        n_codes, n_chunks = arrays["counts"].tolist()
        self.n_codes += n_codes
        self.n_chunks += n_chunks
        self.songs += arrays["songs"].tolist()


def fisher_diagonal(model: AttributableModel, songs: Iterable[SongCodes]) -> Fisher:
    """Measure the Fisher information of a model over some songs, in whatever order they come.

    Raises:
        UnlearningError: there are no songs with sound.
        SpecificationMismatch: a song's codes are those of another codec.
        NumericsError: a gradient is not finite.
    """
    total, parts = FisherSum.empty(model), select_parts(model, "all")
    for codes in songs:
        total.add(model, codes, parts)
    return total.finish()
