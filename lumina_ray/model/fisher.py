"""Diagonal Fisher information of a language model over its catalog, and the file that keeps it beside the weights.

`lumina_ray.unlearning.fisher` measures it; `lumina fisher` writes it.
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

if TYPE_CHECKING:
    from lumina_ray.model.interface import AttributableModel

FISHER_FILE = "fisher.npz"
"""Name of the file in a model's folder. Its ending is none of those that weights are hashed by."""
VERSION = 1
"""Raised whenever the same model and songs would give other numbers."""
_RECORD, _VALUES = "record", "values/"
_FIELDS = ("weights_sha256", "data_sha256", "specification", "n_songs", "n_chunks")


@dataclass(frozen=True, eq=False)
class Fisher:
    """Mean squared gradient of every weight over the chunks of a catalog.

    Attributes:
        values: float32 by name of a tensor, in its shape: see `lumina_ray.unlearning.select.named_tensors`.
        weights_sha256: hash of the weights that it was measured with.
        data_sha256: hash of the songs' codes, in whatever order they came.
        specification: whatever else the numbers depend on.
        n_songs, n_chunks: how many it is the mean over.
    """

    values: Mapping[str, np.ndarray]
    weights_sha256: str
    data_sha256: str
    n_songs: int
    n_chunks: int
    specification: Mapping[str, str | int] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Hash of the values and of all that they were made from."""
        digest = hashlib.sha256(json.dumps(self.record, sort_keys=True).encode())
        for name in sorted(self.values):
            digest.update(name.encode() + b"\0")
            digest.update(self.values[name].tobytes())
        return digest.hexdigest()

    @property
    def record(self) -> dict:
        """All but the values, as plain JSON values."""
        return {name: getattr(self, name) for name in _FIELDS} | {"specification": dict(self.specification)}


def save_fisher(fisher: Fisher, path: Path) -> None:
    """Write it to a file, whole or not at all."""
    arrays = {_VALUES + name: values for name, values in fisher.values.items()}
    record = np.frombuffer(json.dumps(fisher.record | {"version": VERSION}).encode(), np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_RECORD: record}, **arrays)


def load_fisher(path: Path) -> Fisher:
    """Read what `save_fisher` wrote.

    Raises:
        ModelError: no such file, a damaged one, or one of another software version.
    """
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        record = json.loads(held.pop(_RECORD).tobytes())
        version = record.pop("version")
        values = {name.removeprefix(_VALUES): values for name, values in held.items()}
        fisher = Fisher(values, **record)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no Fisher information; measure it with `lumina fisher STORE MODEL`") from error
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise _unusable(path, f"cannot be read ({error})") from error
    if version != VERSION:
        raise _unusable(path, f"of version {version}, this software makes version {VERSION}")
    for name, values_ in values.items():
        if values_.dtype != np.float32 or not np.isfinite(values_).all() or (values_ < 0).any():
            raise _unusable(path, f"{name} is not finite float32 of 0 or more")
    return fisher


def fisher_of(model: "AttributableModel") -> Fisher:
    """Give a model's Fisher information: the one that was set, else the one in its folder, which is then kept.

    Raises:
        ModelError: there is none, or a damaged one.
        SpecificationMismatch: it was measured with other weights.
    """
    if model.fisher is None:
        if model.folder is None:
            raise ModelError(f"model {model.name!r} is in memory only: set its Fisher information, as `model.fisher`")
        model.fisher = load_fisher(model.folder / FISHER_FILE)
    check_fisher(model.fisher, model)
    return model.fisher


def check_fisher(fisher: Fisher, model: "AttributableModel") -> None:
    """Check that Fisher information was measured with a model's weights.

    Raises:
        SpecificationMismatch: with others.
    """
    if fisher.weights_sha256 != model.weights_sha256:
        raise SpecificationMismatch(
            f"the Fisher information was measured with weights {fisher.weights_sha256[:12]}, model {model.name!r} has "
            f"{model.weights_sha256[:12]}; measure it again with `lumina fisher STORE MODEL`"
        )


def _unusable(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: {why}; make it again with `lumina fisher STORE MODEL`")
