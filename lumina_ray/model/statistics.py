"""Statistics of the music that a model learned from: `influence` compares a single song with them.

They are a file beside the model's weights; nano has one, and `lumina statistics` makes
one for another model from a store of its catalog.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lumina_ray.errors import ModelError
from lumina_ray.files import atomic_path, open_file

STATISTICS_FILE = "music_statistics.npz"
UNKNOWN = "unknown"
# The part that is spread evenly: no code is impossible, and a rare one does not outweigh all others.
_SMOOTHING = 0.1
# How far the catalog's own directions are taken back, in units of their mean second moment (chosen on dev,
# docs/validity.md).
_RIDGE = 2.0
_FREQUENCIES, _SHARED = "frequencies", "shared_"


@dataclass(frozen=True)
class MusicStatistics:
    """Statistics of the music that a model learned from.

    Attributes:
        frequencies_KC: float32, how often each code occurs; rows of sum 1.
        shared: by channel, float32 `[D, r]`: directions that the catalog's `influence` fingerprints share, each as long
            as it is to be taken back: see `shared_directions`. Empty where they are not known.
    """

    frequencies_KC: np.ndarray
    shared: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash that identifies them; `UNKNOWN` where they say nothing."""
        if not self.shared and (self.frequencies_KC == self.frequencies_KC[0, 0]).all():
            return UNKNOWN
        digest = hashlib.sha256(np.ascontiguousarray(self.frequencies_KC).tobytes())
        for channel in sorted(self.shared):
            digest.update(channel.encode() + np.ascontiguousarray(self.shared[channel]).tobytes())
        return digest.hexdigest()


def no_statistics(n_codebooks: int, codebook_size: int) -> MusicStatistics:
    """Make statistics of unknown music: all codes are equally frequent."""
    return MusicStatistics(np.full((n_codebooks, codebook_size), 1 / codebook_size, np.float32))


def code_frequencies(pieces: Iterable[np.ndarray], n_codebooks: int, codebook_size: int) -> np.ndarray:
    """Smoothed frequencies, float32 `[K, C]`, rows of sum 1, of integer codes `[K, T]` each.

    Raises:
        ModelError: no codes at all, or those of another codec.
    """
    counts_KC = np.zeros((n_codebooks, codebook_size), np.int64)
    for codes_KT in pieces:
        if len(codes_KT) != n_codebooks or codes_KT.max(initial=0) >= codebook_size:
            raise ModelError(f"codes of another codec: this model has {n_codebooks} codebooks of {codebook_size} codes")
        for k, codes_T in enumerate(codes_KT):
            counts_KC[k] += np.bincount(codes_T, minlength=codebook_size)
    if not counts_KC.sum():
        raise ModelError("frequencies of codes need at least one song")
    observed_KC = counts_KC / counts_KC.sum(axis=1, keepdims=True)
    return ((1 - _SMOOTHING) * observed_KC + _SMOOTHING / codebook_size).astype(np.float32)


def shared_directions(vectors_ND: np.ndarray) -> np.ndarray:
    """Float32 `[D, r]` B such that `x − B (Bᵀ x)` is, up to its length, `(XᵀX + λI)^(−1/2) x`.

    The second moment of a catalog's gradients stands for the curvature of the loss, as in TRAK (Park et al. 2023,
    arXiv:2303.14186, §3.2); half of its inverse goes to the songs and half to the query, so that an inner product of
    two vectors is the preconditioned one. What all songs have in common counts for less, and what is a song's own for
    more. λ is `_RIDGE` times the mean of the r = min(N, D) second moments that can differ from zero.

    Args:
        vectors_ND: X, unit vectors of songs of the catalog.
    """
    X_ND = vectors_ND.astype(np.float64)
    N, D = X_ND.shape
    if N < D:
        moments, left_NN = np.linalg.eigh(X_ND @ X_ND.T)
        directions_Dr = X_ND.T @ left_NN / np.sqrt(np.maximum(moments, 1e-12))
    else:
        moments, directions_Dr = np.linalg.eigh(X_ND.T @ X_ND)
    moments = np.maximum(moments, 0)
    taken_back = 1 - 1 / np.sqrt(1 + moments / (_RIDGE * moments.mean()))
    # Half precision on disk: a fingerprint must not depend on whether its directions were just made or read.
    return (directions_Dr * np.sqrt(taken_back)).astype(np.float16).astype(np.float32)


def save_statistics(statistics: MusicStatistics, folder: Path) -> Path:
    """Write them beside a model's weights."""
    shared = {_SHARED + channel: values.astype(np.float16) for channel, values in statistics.shared.items()}
    with atomic_path(folder / STATISTICS_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_FREQUENCIES: statistics.frequencies_KC}, **shared)
    return folder / STATISTICS_FILE


def load_statistics(folder: Path, n_codebooks: int, codebook_size: int) -> MusicStatistics:
    """Load the statistics in a model's folder; `no_statistics` where it has none.

    Raises:
        ModelError: the file is damaged, or of another model.
    """
    path = folder / STATISTICS_FILE
    if not path.exists():
        return no_statistics(n_codebooks, codebook_size)
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        frequencies_KC = held.pop(_FREQUENCIES)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _unusable(path, f"cannot be read ({error})") from error
    wanted = (n_codebooks, codebook_size)
    if frequencies_KC.dtype != np.float32 or frequencies_KC.shape != wanted:
        raise _unusable(path, f"holds {frequencies_KC.dtype} {frequencies_KC.shape}, this model needs float32 {wanted}")
    sums_K = frequencies_KC.sum(axis=1, dtype=np.float64)
    if not (np.isfinite(frequencies_KC).all() and (frequencies_KC > 0).all() and np.allclose(sums_K, 1, atol=1e-4)):
        raise _unusable(path, "not frequencies, which are positive and add up to 1")
    shared = {name.removeprefix(_SHARED): values.astype(np.float32) for name, values in held.items()}
    if any(values.ndim != 2 or not np.isfinite(values).all() for values in shared.values()):
        raise _unusable(path, "shared directions that are not finite `[D, r]`")
    return MusicStatistics(frequencies_KC, shared)


def _unusable(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: {why}; make it again with `lumina statistics`")
