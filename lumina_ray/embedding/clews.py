"""CLEWS, which was trained to find versions of a piece: one vector for each shingle of 20 s, and its own distance.

Serrà et al. 2025, "Supervised Contrastive Learning from Weakly-Labeled Audio Segments for Musical Version Matching"
(arXiv:2502.16936). The layers and the names of their weights are those of github.com/sony/clews (MIT, © 2025 Sony
Research Inc.), `models/clews.py`, `lib/layers.py` and `lib/tensor_ops.py`, and of the constant-Q transform that it
takes from nnAudio, whose kernels are among the weights. It adds noise of 10⁻⁶ to every spectrogram, for training; this
does not, so that equal audio has equal bits.

Shape legend: W = shingles, N = samples, F = bins, T = frames, C = channels, D = numbers of a vector.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from lumina_ray.embedding.interface import Network
from lumina_ray.embedding.open import check_file, check_keys, unreadable
from lumina_ray.embedding.table import EMBEDDERS

CHECKPOINT_FILE, CONFIGURATION_FILE = "checkpoint_best.ckpt", "configuration.yaml"
BEST_PAIRS = 5
"""Pairs of shingles that its distance is the mean over, as it was trained with (`bpwr-5`)."""
_EPSILON = 1e-6


class _InstanceBatchNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels // 2)
        self.inst = nn.InstanceNorm2d(channels // 2, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return torch.cat([self.bn(first), self.inst(second)], dim=1)


class _Padded(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        middle = max(inputs, outputs) // 2
        middle += middle % 2
        self.convs = nn.Sequential(
            _InstanceBatchNorm(inputs),
            nn.ReLU(),
            _Padded(inputs, middle, stride),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            _Padded(middle, outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.skip = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), _Padded(inputs, outputs, stride))
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.convs(x) + self.skip(x)


class _ConstantQ(nn.Module):
    """nnAudio's CQT1992v2: magnitudes of a convolution with the kernels, in librosa's scale."""

    lenghts: Tensor
    cqt_kernels_real: Tensor
    cqt_kernels_imag: Tensor

    def __init__(self, bins: int, kernel: int, hop: int) -> None:
        super().__init__()
        self._hop = hop
        # nnAudio's own spelling.
        self.register_buffer("lenghts", torch.zeros(bins))
        self.register_buffer("cqt_kernels_real", torch.zeros(bins, 1, kernel))
        self.register_buffer("cqt_kernels_imag", torch.zeros(bins, 1, kernel))

    def forward(self, windows_WN: Tensor) -> Tensor:
        half = self.cqt_kernels_real.shape[-1] // 2
        padded_W1N = functional.pad(windows_WN[:, None], (half, half), mode="reflect")
        real_WFT, imaginary_WFT = (
            functional.conv1d(padded_W1N, kernels, stride=self._hop)
            for kernels in (self.cqt_kernels_real, self.cqt_kernels_imag)
        )
        return (real_WFT.square() + imaginary_WFT.square()).sqrt() * self.lenghts.sqrt()[:, None]


class _Prepare(nn.Module):
    """Square root, and every shingle from 0 to 1."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self._power = power
        self.gain, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(min=0).pow(self._power)
        x = x - x.amin(dim=(2, 3), keepdim=True)
        return self.gain * x / (x.amax(dim=(2, 3), keepdim=True) + _EPSILON) + self.bias


class _PowerMean(nn.Module):
    """Generalised mean over bins and frames, of a power of more than 1 that is a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        power = 1 + functional.softplus(self.p)
        return x.flatten(2).clamp(min=_EPSILON).pow(power).mean(dim=-1).pow(1 / power[..., 0])


class Clews(nn.Module):
    """The network, whose sizes are those of a configuration file's part `model`."""

    def __init__(self, model: Mapping[str, Any], rate_hz: int, kernel: int) -> None:
        super().__init__()
        cqt, (narrow, wide) = model["cqt"], model["frontend"]["channels"]
        bins, pool = cqt["noctaves"] * cqt["nbinsoct"], cqt["pool"]
        self.cqt = nn.Sequential(_ConstantQ(bins, kernel, int(cqt["hoplen"] * rate_hz)), nn.AvgPool1d(pool, pool))
        self.frontend = nn.Sequential(
            _Prepare(model["frontend"]["cqtpow"]),
            nn.Conv2d(1, narrow, (12, 3), stride=(1, 2), bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, (12, 3), stride=2, bias=False),
        )
        blocks, inputs = list[nn.Module](), wide
        backbone = model["backbone"]
        for n, outputs, stride in zip(backbone["blocks"], backbone["channels"], backbone["down"], strict=True):
            blocks += [_Block(inputs, outputs, stride), *(_Block(outputs, outputs) for _ in range(n - 1))]
            inputs = outputs
        self.backbone = nn.Sequential(*blocks)
        self.pool = _PowerMean()
        self.proj = nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, model["zdim"], bias=False))

    def forward(self, windows_WN: Tensor) -> Tensor:
        return self.proj(self.pool(self.backbone(self.frontend(self.cqt(windows_WN)[:, None]))))


def load(folder: Path, device: torch.device) -> Network:
    """Load a checkpoint of CLEWS's training, with the configuration beside it.

    Raises:
        ModelError: the folder holds something else.
    """
    files = [check_file(folder / file, "clews") for file in (CHECKPOINT_FILE, CONFIGURATION_FILE)]
    row = EMBEDDERS["clews"]
    state = _state(files[0])
    try:
        configuration = yaml.safe_load(files[1].read_text(encoding="utf-8"))
        model, rate_hz = configuration["model"], configuration["data"]["samplerate"]
        samples = rate_hz * model["shingling"]["len"]
        if (rate_hz, samples) != (row.rate_hz, row.window_samples):
            raise ValueError(
                f"shingles of {samples} samples at {rate_hz} Hz, not {row.window_samples} at {row.rate_hz}"
            )
        network = Clews(model, rate_hz, int(state["cqt.0.cqt_kernels_real"].shape[-1]))
        dims = int(model["zdim"])
    except (OSError, KeyError, TypeError, ValueError, IndexError, RuntimeError, yaml.YAMLError) as error:
        raise unreadable(folder, "clews", f"{CONFIGURATION_FILE}: {type(error).__name__}: {error}") from error
    wanted = network.state_dict()
    check_keys(folder, "clews", wanted.keys() - state.keys(), state.keys() - wanted.keys())
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise unreadable(folder, "clews", f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
    network.load_state_dict(state)
    return Network(network.eval().to(device), dims, files)


def _state(path: Path) -> dict[str, Tensor]:
    """The network's tensors of a checkpoint of Lightning Fabric, whose configuration is an OmegaConf."""
    try:
        # They hold data, and running none of their code makes it.
        with torch.serialization.safe_globals(_plain_data()):
            held = torch.load(path, map_location="cpu", weights_only=True)
        state = held["model"]
        if not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise TypeError("not all of it are tensors")
    except pickle.UnpicklingError as error:
        # torch's own words advise to run whatever the file holds.
        found = re.search(r"GLOBAL (\S+)", str(error))
        why = f"holds {found[1]}, which is more than numbers" if found else "is damaged"
        raise unreadable(path.parent, "clews", f"{path.name} {why}") from error
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise unreadable(path.parent, "clews", f"{path.name}: {type(error).__name__}: {error}") from error
    return dict(state)


def _plain_data() -> list[Any]:
    from collections import defaultdict

    from omegaconf import DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata
    from omegaconf.nodes import AnyNode

    return [DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode, defaultdict, dict, list, int, Any]


def shingle_distance(one_nD: np.ndarray, other_mD: np.ndarray, pairs: int = BEST_PAIRS) -> float:
    """CLEWS's own distance of two recordings: the mean over the best pairs of shingles, no shingle in two pairs.

    The distance of a pair is the mean square of the difference. CLEWS breaks ties at random, this by order.

    Args:
        one_nD, other_mD: vectors of each recording's shingles, as the network gives them, not scaled to unit length.
        pairs: how many; fewer where a recording has fewer shingles.
    """
    differences_nmD = one_nD[:, None].astype(np.float64) - other_mD[None].astype(np.float64)
    squares_nm = np.square(differences_nmD).mean(axis=2)
    chosen = []
    for _ in range(min(pairs, *squares_nm.shape)):
        i, j = np.unravel_index(np.argmin(squares_nm), squares_nm.shape)
        chosen.append(squares_nm[i, j])
        squares_nm[i], squares_nm[:, j] = np.inf, np.inf
    return float(np.mean(chosen))
