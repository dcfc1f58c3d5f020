"""How often each code occurs in the music that a model learned from: what a head knows that has learned nothing else.

Part of what `influence` is made with. A file beside the model's weights; nano has one, and `lumina frequencies` makes
one for another model from a store of its catalog.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumina_ray.catalog.files import atomic_path
from lumina_ray.errors import ModelError
from lumina_ray.model.interface import MusicModel

FREQUENCIES_FILE = "code_frequencies.npy"
UNIFORM = "uniform"
# The part that is spread evenly: no code is impossible, and a rare one does not outweigh all others.
_SMOOTHING = 0.1


def uniform_frequencies(n_codebooks: int, codebook_size: int) -> np.ndarray:
    """Float32 `[K, C]` where nothing is known of the music."""
    return np.full((n_codebooks, codebook_size), 1 / codebook_size, np.float32)


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


def frequencies_sha256(model: MusicModel) -> str:
    """What identifies a model's frequencies; `UNIFORM` where they say nothing."""
    if (model.code_frequencies_KC == model.code_frequencies_KC[0, 0]).all():
        return UNIFORM
    return hashlib.sha256(np.ascontiguousarray(model.code_frequencies_KC).tobytes()).hexdigest()


def save_frequencies(frequencies_KC: np.ndarray, folder: Path) -> Path:
    """Write them beside a model's weights."""
    with atomic_path(folder / FREQUENCIES_FILE) as temporary, temporary.open("wb") as file:
        np.save(file, frequencies_KC)
    return folder / FREQUENCIES_FILE


def load_frequencies(folder: Path, n_codebooks: int, codebook_size: int) -> np.ndarray:
    """Those of a model's folder, float32 `[K, C]`; uniform ones where it has none.

    Raises:
        ModelError: the file is damaged, or of another model.
    """
    path = folder / FREQUENCIES_FILE
    if not path.exists():
        return uniform_frequencies(n_codebooks, codebook_size)
    try:
        frequencies_KC = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); make it again with `lumina frequencies`") from error
    wanted = (n_codebooks, codebook_size)
    if frequencies_KC.dtype != np.float32 or frequencies_KC.shape != wanted:
        raise ModelError(
            f"{path}: holds {frequencies_KC.dtype} {frequencies_KC.shape}, this model needs float32 {wanted}; "
            "make it again with `lumina frequencies`"
        )
    sums_K = frequencies_KC.sum(axis=1, dtype=np.float64)
    if not (np.isfinite(frequencies_KC).all() and (frequencies_KC > 0).all() and np.allclose(sums_K, 1, atol=1e-4)):
        raise ModelError(
            f"{path}: not frequencies, which are positive and add up to 1; make it again with `lumina frequencies`"
        )
    return frequencies_KC
