"""The learned maps of evidence: what instruments change about notes, and notes about sound, counts for less.

They come with the software (`maps.npz` beside this file), learned from music that no figure is reported on.

Shape legend: n = clips, D = numbers of a description, d = numbers that are kept.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from lumina_ray.evidence.composition import PARTS
from lumina_ray.files import atomic_path

WHITENING_SHRINKAGE = 0.5
SOUND_SHRINKAGE, SOUND_DIMS = 0.3, 32
_FILE = "maps.npz"
_SOUND = "sound"


@dataclass(frozen=True)
class Map:
    """An affine map, `(x − centre) · matrix`.

    Attributes:
        centre_D: float32 `[D]`.
        matrix_Dd: float32 `[D, d]`.
    """

    centre_D: np.ndarray
    matrix_Dd: np.ndarray

    def __call__(self, vector_D: np.ndarray) -> np.ndarray:
        """Map one vector to float64 `[d]`. Not through BLAS, whose last bits depend on its threads."""
        return np.einsum("i,ij->j", vector_D - self.centre_D, self.matrix_Dd.astype(np.float64))


@dataclass(frozen=True)
class Maps:
    """Everything that is learned.

    Attributes:
        composition: one map for each part of a composition (`lumina_ray.evidence.composition.PARTS`).
        sound: the map of all parts of a sound, one after the other.
    """

    composition: dict[str, Map]
    sound: Map


@cache
def shipped_maps() -> Maps:
    """Load the maps that come with the software."""
    with (files("lumina_ray.evidence") / _FILE).open("rb") as file, np.load(file) as arrays:
        return Maps({part: _map(arrays, part) for part in PARTS}, _map(arrays, _SOUND))


def save_maps(maps: Maps, path: Path) -> None:
    """Write maps as `shipped_maps` reads them."""
    arrays: dict[str, Any] = {}
    for name, one in (*maps.composition.items(), (_SOUND, maps.sound)):
        arrays |= {f"{name}_centre": one.centre_D, f"{name}_matrix": one.matrix_Dd}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def learn_maps(
    composition: Mapping[str, np.ndarray], sound_nD: np.ndarray, notes: Sequence[Hashable], sounds: Sequence[Hashable]
) -> Maps:
    """Learn all maps from clips in which notes and sounds are apart.

    Args:
        composition: by part, float64 `[n, D]`.
        sound_nD: all parts of the sounds, one after the other.
        notes: of each clip, what is played: equal for clips of one passage.
        sounds: of each clip, what plays it.
    """
    whitenings = {part: learn_whitening(unit_rows(composition[part]), notes) for part in PARTS}
    return Maps(whitenings, learn_discriminants(sound_nD, sounds))


def learn_whitening(vectors_nD: np.ndarray, classes: Sequence[Hashable], shrinkage: float = WHITENING_SHRINKAGE) -> Map:
    """Learn the inverse square root of the covariance within classes (WCCN; Hatch, Kajarekar & Stolcke 2006).

    Args:
        vectors_nD: float64.
        classes: of each vector.
        shrinkage: part of the covariance that is replaced by a multiple of the identity with the same trace.
    """
    within_DD = _within(vectors_nD, classes)
    D = len(within_DD)
    within_DD = (1 - shrinkage) * within_DD + shrinkage * np.trace(within_DD) / D * np.eye(D)
    values_D, vectors_DD = np.linalg.eigh(within_DD)
    return _float32(vectors_nD.mean(axis=0), vectors_DD / np.sqrt(values_D) @ vectors_DD.T)


def learn_discriminants(
    vectors_nD: np.ndarray, classes: Sequence[Hashable], shrinkage: float = SOUND_SHRINKAGE, dims: int = SOUND_DIMS
) -> Map:
    """Learn the directions in which classes differ most, for what differs within them (Fisher's discriminants).

    Args:
        vectors_nD: float64; each number is first brought to unit variance.
        classes: of each vector.
        shrinkage: part of the covariance within classes that is replaced by its diagonal.
        dims: how many directions are kept; each has unit variance within classes.
    """
    centre_D, spread_D = vectors_nD.mean(axis=0), vectors_nD.std(axis=0) + 1e-9
    standard_nD = (vectors_nD - centre_D) / spread_D
    within_DD = _within(standard_nD, classes)
    within_DD = (1 - shrinkage) * within_DD + shrinkage * np.diag(np.diag(within_DD))
    between_DD = np.cov(standard_nD.T, bias=True) - _within(standard_nD, classes)
    values_D, vectors_DD = np.linalg.eigh(within_DD)
    whitening_DD = vectors_DD / np.sqrt(np.maximum(values_D, 1e-9))
    _, directions_DD = np.linalg.eigh(whitening_DD.T @ between_DD @ whitening_DD)
    return _float32(centre_D, (whitening_DD @ directions_DD[:, ::-1][:, :dims]) / spread_D[:, None])


def unit(vector_D: np.ndarray) -> np.ndarray:
    """Scale a vector to length 1; one of zeros stays as it is."""
    length = np.sqrt(np.einsum("i,i->", vector_D, vector_D))
    return vector_D / length if length > 0 else vector_D


def unit_rows(vectors_nD: np.ndarray) -> np.ndarray:
    """Scale each row to length 1; rows of zeros stay as they are."""
    lengths_n1 = np.linalg.norm(vectors_nD, axis=1, keepdims=True)
    return vectors_nD / np.where(lengths_n1 > 0, lengths_n1, 1)


def _within(vectors_nD: np.ndarray, classes: Sequence[Hashable]) -> np.ndarray:
    """Covariance about the means of classes, `[D, D]`."""
    numbers: dict[Hashable, int] = {}
    of_n = np.array([numbers.setdefault(name, len(numbers)) for name in classes])
    sums_CD = np.zeros((len(numbers), vectors_nD.shape[1]))
    np.add.at(sums_CD, of_n, vectors_nD)
    off_nD = vectors_nD - (sums_CD / np.bincount(of_n)[:, None])[of_n]
    return off_nD.T @ off_nD / len(vectors_nD)


def _float32(centre_D: np.ndarray, matrix_Dd: np.ndarray) -> Map:
    return Map(centre_D.astype(np.float32), matrix_Dd.astype(np.float32))


def _map(arrays: Mapping[str, np.ndarray], name: str) -> Map:
    return Map(arrays[f"{name}_centre"], arrays[f"{name}_matrix"])


@cache
def maps_sha256() -> str:
    """Hash of the maps that come with the software: vectors of other maps cannot be compared with theirs."""
    return hashlib.sha256((files("lumina_ray.evidence") / _FILE).read_bytes()).hexdigest()
