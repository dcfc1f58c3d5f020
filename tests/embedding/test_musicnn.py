"""musicnn's layers against NumPy, its spectrogram against transformers', and folders that hold something else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchaudio.transforms import MelSpectrogram
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from lumina_ray.embedding import musicnn
from lumina_ray.embedding.convert_musicnn import convert
from lumina_ray.embedding.open import FOLDER_VARIABLE, find_embedder, open_embedder
from lumina_ray.embedding.table import EMBEDDERS
from lumina_ray.errors import ModelError
from tests.embedding.test_tensorflow_checkpoint import write

CPU = torch.device("cpu")
N = EMBEDDERS["musicnn"].window_samples


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(find_embedder("musicnn") / musicnn.WEIGHTS_FILE) as held:
        return {name: held[name].astype(np.float64) for name in held.files}


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.from_numpy((0.1 * np.random.default_rng(0).standard_normal((2, N))).astype(np.float32))


def expected(W: dict[str, np.ndarray], patch_TF: np.ndarray) -> np.ndarray:
    """The layers of the package's models.py, in float64."""

    def norm(x: np.ndarray, i: int) -> np.ndarray:
        gamma, beta, mean, variance = (
            W[f"batch_normalization{f'_{i}' if i else ''}/{name}"]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def conv(x: np.ndarray, name: str, before: int, behind: int) -> np.ndarray:
        kernel = W[f"{name}/kernel"][:, :, 0]
        padded = np.pad(x, ((before, behind), (0, 0)))
        views = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2])
        return np.maximum(np.tensordot(views, kernel, axes=([2, 3], [0, 1])) + W[f"{name}/bias"], 0)

    x = norm(patch_TF[..., None], 0)[..., 0]
    parts = [norm(conv(x, "conv2d", 3, 3), 1).max(1), norm(conv(x, "conv2d_1", 3, 3), 2).max(1)]
    parts += [norm(conv(x, "conv2d_2", 63, 64), 3).max(1), norm(conv(x, "conv2d_3", 31, 32), 4).max(1)]
    parts.append(norm(conv(x, "conv2d_4", 15, 16), 5).max(1))
    front = np.concatenate(parts, 1)
    first = norm(conv(front, "conv2d_5", 3, 3)[:, 0], 6)
    second = norm(conv(first, "conv2d_6", 3, 3)[:, 0], 7) + first
    third = norm(conv(second, "conv2d_7", 3, 3)[:, 0], 8) + second
    features = np.concatenate([front, first, second, third], 1)
    pooled = norm(np.stack([features.max(0), features.mean(0)], 1).ravel(), 9)
    return norm(np.maximum(pooled @ W["dense/kernel"] + W["dense/bias"], 0), 10)


def test_layers_are_those_of_the_package(arrays: dict[str, np.ndarray], windows: torch.Tensor) -> None:
    mel = MelSpectrogram(16_000, n_fft=512, hop_length=256, n_mels=96, norm="slaney", mel_scale="slaney", power=2.0)
    patches_WTF = musicnn.log_mel(mel, windows)
    assert patches_WTF.shape == (2, 187, 96)
    vectors_WD = open_embedder("musicnn", CPU)(windows)
    assert vectors_WD.shape == (2, 200)
    np.testing.assert_allclose(vectors_WD[1], expected(arrays, patches_WTF[1].double().numpy()), atol=1e-4)


def test_spectrograms_are_librosas(windows: torch.Tensor) -> None:
    """transformers' own, in NumPy and float64, are librosa's."""
    mel = MelSpectrogram(16_000, n_fft=512, hop_length=256, n_mels=96, norm="slaney", mel_scale="slaney", power=2.0)
    filters = mel_filter_bank(257, 96, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    found = spectrogram(
        windows[0].numpy(), window_function(512, "hann"), 512, 256, power=2.0, mel_filters=filters, mel_floor=0.0
    )
    np.testing.assert_allclose(mel(windows[0]), found, rtol=1e-3, atol=1e-5 * found.max())


def test_equal_windows_have_equal_bits_whatever_came_before(windows: torch.Tensor) -> None:
    embedder = open_embedder("musicnn", CPU)
    first = embedder(windows)
    embedder(windows.flip(0))
    assert torch.equal(first, embedder(windows))
    assert not torch.allclose(first[0], first[1], atol=1e-3)


def test_a_checkpoint_of_the_package_is_read_and_converted(
    tmp_path: Path, windows: torch.Tensor, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "musicnn"
    folder.mkdir()
    more = {"dense/kernel/Adam": np.zeros((2, 2), np.float32), "beta1_power": np.array(0.9, np.float32)}
    write(folder, {name: values.astype(np.float32) for name, values in arrays.items()} | more)
    bundled = open_embedder("musicnn", CPU)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    given = open_embedder("musicnn", CPU)
    assert torch.equal(given(windows), bundled(windows))
    # Other files, another specification.
    assert given.sha256 != bundled.sha256
    convert(folder, tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as held:
        assert all(np.array_equal(held[name], arrays[name]) for name in arrays)


def test_a_folder_that_holds_something_else_says_what(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match=r"musicnn \(musicnn\.npz: No such file.*must hold musicnn\.npz, or \.index"):
        musicnn.load(tmp_path, CPU)

    def load(changed: dict[str, np.ndarray]) -> None:
        np.savez(tmp_path / musicnn.WEIGHTS_FILE, **changed)  # type: ignore[arg-type]
        musicnn.load(tmp_path, CPU)

    with pytest.raises(ModelError, match="lacks tensors: dense/bias"):
        load({name: values for name, values in arrays.items() if name != "dense/bias"})
    with pytest.raises(ModelError, match="has unknown tensors: conv9"):
        load(arrays | {"conv9": np.zeros(1)})
    with pytest.raises(ModelError, match=r"dense/bias is \(3,\), not finite numbers \(200,\)"):
        load(arrays | {"dense/bias": np.zeros(3)})
    with pytest.raises(ModelError, match="dense/bias is"):
        load(arrays | {"dense/bias": np.full(200, np.nan)})
    (tmp_path / musicnn.WEIGHTS_FILE).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ModelError, match=r"musicnn\.npz is damaged"):
        musicnn.load(tmp_path, CPU)
