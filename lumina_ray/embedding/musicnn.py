"""musicnn, a convolutional network that was trained to name tags of music: the layer before the tags, 200 numbers.

Pons et al. 2018, "End-to-end learning for music audio tagging at scale" (arXiv:1711.02520); layers as in `models.py` of
the package musicnn 0.1.0 (ISC, github.com/jordipons/musicnn), in torch and without TensorFlow. The bundled weights are
its MSD_musicnn in half precision; `python -m lumina_ray.embedding.convert_musicnn` makes the file.

Shape legend: W = windows, N = samples, F = mel bands, C = channels, T = frames.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.transforms import MelSpectrogram

from lumina_ray.embedding.interface import Network
from lumina_ray.embedding.open import check_file, check_keys, unreadable
from lumina_ray.embedding.table import EMBEDDERS
from lumina_ray.embedding.tensorflow_checkpoint import DATA_FILE, INDEX_FILE, read_tensorflow_checkpoint
from lumina_ray.files import open_file

WEIGHTS_FILE = "musicnn.npz"
_RATE_HZ, _FFT, _HOP, _BANDS = EMBEDDERS["musicnn"].rate_hz, 512, 256, 96
# A batch normalisation of TensorFlow 1 adds it to the variance.
_EPSILON = 1e-3
_TIMBRAL, _TEMPORAL, _MIDDLE, _OUT = 204, 51, 64, EMBEDDERS["musicnn"].dims
_FRONT = 2 * _TIMBRAL + 3 * _TEMPORAL
_POOLED = 2 * (_FRONT + 3 * _MIDDLE)
_KERNELS = {
    "conv2d": (7, 38, 1, _TIMBRAL),
    "conv2d_1": (7, 67, 1, _TIMBRAL),
    "conv2d_2": (128, 1, 1, _TEMPORAL),
    "conv2d_3": (64, 1, 1, _TEMPORAL),
    "conv2d_4": (32, 1, 1, _TEMPORAL),
    "conv2d_5": (7, _FRONT, 1, _MIDDLE),
    "conv2d_6": (7, _MIDDLE, 1, _MIDDLE),
    "conv2d_7": (7, _MIDDLE, 1, _MIDDLE),
    "dense": (_POOLED, _OUT),
}
_NORMS = (1, _TIMBRAL, _TIMBRAL, *(_TEMPORAL,) * 3, *(_MIDDLE,) * 3, _POOLED, _OUT)
_OF_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
SHAPES: dict[str, tuple[int, ...]] = {
    **{f"{layer}/kernel": shape for layer, shape in _KERNELS.items()},
    **{f"{layer}/bias": shape[-1:] for layer, shape in _KERNELS.items()},
    **{f"batch_normalization{f'_{i}' * (i > 0)}/{name}": (size,) for i, size in enumerate(_NORMS) for name in _OF_NORM},
}
"""Every tensor that the vectors need, by its name in the checkpoint, with its shape."""
# Of training, and of the layer that makes tags from the vector.
_NOT_NEEDED = ("Adam", "beta1_power", "beta2_power", "dense_1/", "global_step")


def load(folder: Path, device: torch.device) -> Network:
    """Load musicnn from its file, or from a checkpoint of the package musicnn.

    Raises:
        ModelError: neither is there, or it holds other tensors.
    """
    if (folder / INDEX_FILE).is_file():
        files = [folder / INDEX_FILE, folder / DATA_FILE]
        arrays = read_tensorflow_checkpoint(folder)
        arrays = {name: array for name, array in arrays.items() if not any(word in name for word in _NOT_NEEDED)}
    else:
        files = [check_file(folder / WEIGHTS_FILE, "musicnn")]
        arrays = _read(files[0])
    check_keys(folder, "musicnn", SHAPES.keys() - arrays.keys(), arrays.keys() - SHAPES.keys())
    for name, shape in SHAPES.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise unreadable(folder, "musicnn", f"{name} is {arrays[name].shape}, not finite numbers {shape}")
    weights = {name: torch.tensor(array, dtype=torch.float32, device=device) for name, array in arrays.items()}
    mel = MelSpectrogram(
        _RATE_HZ, n_fft=_FFT, hop_length=_HOP, n_mels=_BANDS, norm="slaney", mel_scale="slaney", power=2.0
    ).to(device)
    return Network(lambda windows_WN: penultimate(weights, log_mel(mel, windows_WN)), _OUT, files)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise unreadable(path.parent, "musicnn", f"{path.name} is damaged: {error}") from error


def log_mel(mel: MelSpectrogram, windows_WN: Tensor) -> Tensor:
    """`log10(1 + 10⁴ S)` of the mel power spectrogram S, float32 `[W, T, F]`.

    The package computes it in half precision, where loud music overflows; this does not.
    """
    return torch.log10(1 + 10_000 * mel(windows_WN)).transpose(1, 2)


def penultimate(weights: Mapping[str, Tensor], patches_WTF: Tensor) -> Tensor:
    """The layer before the tags, float32 `[W, 200]`, of spectrograms.

    Args:
        weights: float32, by the names of `SHAPES`.
        patches_WTF: from `log_mel`.
    """

    def norm(x: Tensor, i: int) -> Tensor:
        """Normalise dimension 1, as in inference."""
        of = f"batch_normalization{f'_{i}' * (i > 0)}"
        gamma, beta, mean, variance = (weights[f"{of}/{name}"] for name in _OF_NORM)
        return functional.batch_norm(x, mean, variance, gamma, beta, eps=_EPSILON)

    def front(x_W1TF: Tensor, layer: str, i: int) -> Tensor:
        kernel_C1TF = weights[f"{layer}/kernel"].permute(3, 2, 0, 1)
        maps_WCTF = functional.conv2d(x_W1TF, kernel_C1TF, weights[f"{layer}/bias"]).relu()
        return norm(maps_WCTF, i).amax(dim=3)

    def middle(x_WCT: Tensor, layer: str, i: int) -> Tensor:
        kernel_CCT = weights[f"{layer}/kernel"][:, :, 0].permute(2, 1, 0)
        return norm(functional.conv1d(x_WCT, kernel_CCT, weights[f"{layer}/bias"], padding=3).relu(), i)

    x_W1TF = norm(patches_WTF[:, None], 0)
    timbral_W1TF = functional.pad(x_W1TF, (0, 0, 3, 3))
    parts = [front(timbral_W1TF, "conv2d", 1), front(timbral_W1TF, "conv2d_1", 2)]
    for i, length in enumerate((128, 64, 32), start=2):
        # TensorFlow puts the odd one of its zeros behind.
        padded_W1TF = functional.pad(x_W1TF, (0, 0, (length - 1) // 2, length // 2))
        parts.append(front(padded_W1TF, f"conv2d_{i}", i + 1))
    front_WCT = torch.cat(parts, dim=1)
    first_WCT = middle(front_WCT, "conv2d_5", 6)
    second_WCT = middle(first_WCT, "conv2d_6", 7) + first_WCT
    third_WCT = middle(second_WCT, "conv2d_7", 8) + second_WCT
    all_WCT = torch.cat([front_WCT, first_WCT, second_WCT, third_WCT], dim=1)
    # Each feature's largest value and its mean stand side by side.
    pooled_WC = torch.stack([all_WCT.amax(dim=2), all_WCT.mean(dim=2)], dim=2).flatten(1)
    dense_WD = functional.linear(norm(pooled_WC, 9), weights["dense/kernel"].T, weights["dense/bias"]).relu()
    return norm(dense_WD, 10)
