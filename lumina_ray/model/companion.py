"""A model's companions: other models whose gradients stand beside its own in `companion` fingerprints, and what was
measured of all of them on the catalog.

A companion is an earlier checkpoint of the same training, or the model that a fine-tuning began from. The file that
says which there are, and keeps what was measured, lies beside the weights; `lumina statistics STORE MODEL --companion
NAME` writes it.

Shape legend: M, N = rows and columns of a weight; p, q = directions that are kept of them; S = numbers of a song before
they are cut to a fingerprint's length; r = directions of a basis.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lumina_ray.errors import ModelError, SpecificationMismatch
from lumina_ray.files import atomic_path, open_file
from lumina_ray.vocabulary import CHANNELS

if TYPE_CHECKING:
    import torch

    from lumina_ray.model.interface import MusicModel

COMPANION_FILE = "companion.npz"
"""Name of the file in a model's folder. Its ending is none of those that weights are hashed by."""
VERSION = 2
"""Raised whenever the same models and songs would give other numbers."""
MAX_COMPANIONS = 3
"""Each of them costs as much as the model itself."""
MAX_SONGS = 2048
"""A larger catalog is sampled: half the numbers of a fingerprint are for its songs' span, the others for the rest."""
# Far above what a catalog can give: bases of so many songs in half precision are 100 MB.
_MAX_BYTES = 1 << 30
_RECORD, _LEFT, _RIGHT, _BASIS = "record", "left/", "right/", "basis/"
_LISTS = ("names", "companions_sha256")
_MAKE = "lumina statistics STORE MODEL --companion NAME"


@dataclass(frozen=True, eq=False)
class Sides:
    """The two matrices that a weight's gradient G is cut down by, to `left G rightᵀ`.

    Attributes:
        left_pM: float32 `[p, M]`.
        right_qN: float32 `[q, N]`.
    """

    left_pM: np.ndarray
    right_qN: np.ndarray


@dataclass(frozen=True, eq=False)
class Companions:
    """Everything that `companion` fingerprints of a model need besides the model.

    Attributes:
        names: of the companions, as `open_model` takes them.
        companions_sha256: hashes of their weights.
        weights_sha256: hash of the weights of the model that they belong to.
        sides: by tensor: `model/heads.0`, `companion-1/linear2` and so on.
        bases: by channel, float16 `[S, r]`: directions that songs of the catalog lie in, orthonormal but for rounding.
        opened: the companions themselves, by device, where they were opened or handed over.
    """

    names: tuple[str, ...]
    companions_sha256: tuple[str, ...]
    weights_sha256: str
    sides: Mapping[str, Sides]
    bases: Mapping[str, np.ndarray]
    opened: dict[str, tuple["MusicModel", ...]] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Hash of the arrays and of the weights of all models; not of where the companions lie."""
        digest = hashlib.sha256(" ".join((str(VERSION), *self.companions_sha256, self.weights_sha256)).encode())
        for name, values in sorted(self.arrays.items()):
            digest.update(f"{name} {values.shape}\0".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by their names in the file, as the file has them."""
        arrays = {_LEFT + name: sides.left_pM for name, sides in self.sides.items()}
        arrays |= {_RIGHT + name: sides.right_qN for name, sides in self.sides.items()}
        return arrays | {_BASIS + channel: basis_Sr for channel, basis_Sr in self.bases.items()}

    @cached_property
    def orthonormal(self) -> dict[str, np.ndarray]:
        """The bases without the rounding of half precision, float32 `[S, r]`, orthonormal to 1e-6.

        They follow from the rounded ones, so that it makes no difference whether those were just measured or read.

        Raises:
            ModelError: a basis holds directions that depend on each other.
        """
        out = {}
        for channel, rounded_Sr in self.bases.items():
            basis_Sr = rounded_Sr.astype(np.float64)
            try:
                # With BᵀB = L Lᵀ, the columns of B L⁻ᵀ are orthonormal, and as close to B's as the rounding.
                lower_rr = np.linalg.cholesky(basis_Sr.T @ basis_Sr)
            except np.linalg.LinAlgError as error:
                raise ModelError(
                    f"{COMPANION_FILE}: the directions of channel {channel} depend on each other; make it again with "
                    f"`{_MAKE}`"
                ) from error
            out[channel] = np.ascontiguousarray(np.linalg.solve(lower_rr, basis_Sr.T).T, np.float32)
        return out

    def open(self, device: "torch.device", dtype: "torch.dtype") -> tuple["MusicModel", ...]:
        """The companions on a device, which are opened once.

        Args:
            dtype: as in `open_model`.

        Raises:
            ModelError: one is not at hand.
            SpecificationMismatch: one has other weights now.
        """
        if str(device) not in self.opened:
            named = zip(self.names, self.companions_sha256, strict=True)
            self.opened[str(device)] = tuple(_open(name, sha256, device, dtype) for name, sha256 in named)
        return self.opened[str(device)]


def _open(name: str, sha256: str, device: "torch.device", dtype: "torch.dtype") -> "MusicModel":
    from lumina_ray.model.open import open_music_model

    try:
        model = open_music_model(name, str(device), dtype)
    except ModelError as error:
        raise ModelError(
            f"a companion that {COMPANION_FILE} names cannot be opened ({error}); put it back, or measure with "
            f"another one: `{_MAKE}`"
        ) from error
    if model.weights_sha256 != sha256:
        raise SpecificationMismatch(
            f"{COMPANION_FILE} was measured with a companion of weights {sha256[:12]}, {name!r} has "
            f"{model.weights_sha256[:12]}; put the former one back, or measure again with `{_MAKE}`"
        )
    return model


def save_companions(companions: Companions, folder: Path) -> Path:
    """Write them beside a model's weights, whole or not at all."""
    record = {name: getattr(companions, name) for name in (*_LISTS, "weights_sha256")} | {"version": VERSION}
    data = np.frombuffer(json.dumps(record).encode(), np.uint8)
    with atomic_path(folder / COMPANION_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_RECORD: data}, **companions.arrays)
    return folder / COMPANION_FILE


def load_companions(folder: Path) -> Companions:
    """Read what `save_companions` wrote.

    Raises:
        ModelError: no such file, a damaged one, or one of another software version.
    """
    path = folder / COMPANION_FILE
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as members:
            n_bytes = sum(member.file_size for member in members.infolist())
        if n_bytes > _MAX_BYTES:
            raise _unusable(path, f"would take {n_bytes} bytes, more than {_MAX_BYTES}")
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        record = json.loads(held.pop(_RECORD).tobytes())
        version = record.pop("version")
        names, sha256s, (weights_sha256,) = (
            _texts(values) for values in (*(record[name] for name in _LISTS), [record["weights_sha256"]])
        )
        lefts, rights = _named(held, _LEFT), _named(held, _RIGHT)
        sides = {name: Sides(lefts[name], rights[name]) for name in lefts | rights}
        bases = _named(held, _BASIS)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; `companion` fingerprints need it, make it with `{_MAKE}`") from error
    except ModelError:
        raise
    # zipfile, zlib, NumPy and Python's own tokenizer, which NumPy calls, have a dozen errors for damaged bytes.
    except Exception as error:
        raise _unusable(path, f"cannot be read ({error})") from error
    if version != VERSION:
        raise _unusable(path, f"of version {version}, this software makes version {VERSION}")
    if not 0 < len(names) == len(sha256s) <= MAX_COMPANIONS or set(bases) != set(CHANNELS):
        raise _unusable(path, "does not say which models it is of, or lacks a channel")
    wrong = [
        name
        for name, values in held.items()
        if values.ndim != 2
        or values.dtype != (np.float16 if name.startswith(_BASIS) else np.float32)
        or not np.isfinite(values).all()
    ]
    if wrong:
        raise _unusable(path, f"{wrong[0]} is no finite matrix of its type")
    return Companions(names, sha256s, weights_sha256, sides, bases)


def companions_of(model: "MusicModel") -> Companions:
    """Give a model's companions: those that were set, else those that its folder names, which are then kept.

    Raises:
        ModelError: there are none, or a damaged file.
        SpecificationMismatch: they were measured with other weights of the model.
    """
    if model.companions is None:
        if model.folder is None:
            raise ModelError(f"model {model.name!r} is in memory only: set its companions, as `model.companions`")
        model.companions = load_companions(model.folder)
    found = model.companions
    if found.weights_sha256 != model.weights_sha256:
        raise SpecificationMismatch(
            f"{COMPANION_FILE} was measured with weights {found.weights_sha256[:12]}, model {model.name!r} has "
            f"{model.weights_sha256[:12]}; measure it again with `{_MAKE}`"
        )
    return found


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"{values!r} is no list of texts")
    return tuple(values)


def _named(held: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in held.items() if name.startswith(prefix)}


def _unusable(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: {why}; make it again with `{_MAKE}`")
