"""Interface of every embedder: a function of fixed windows of audio, and the hash of all that it depends on.

Shape legend: W = windows, N = samples of a window, D = numbers of a vector.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from lumina_ray.embedding.table import EmbedderRow
from lumina_ray.files import open_file

# Raised whenever the same weights and windows would give other numbers.
VERSION = 1


@dataclass(frozen=True)
class Network:
    """Weights that were loaded.

    Attributes:
        embed: function of float32 windows `[W, N]` on the weights' device; returns float32 `[W, D]` there.
        dims: D.
        files: what was read, whose content the numbers depend on.
    """

    embed: Callable[[Tensor], Tensor]
    dims: int
    files: Sequence[Path]


@dataclass(frozen=True, eq=False)
class Embedder:
    """An embedder with its weights.

    Attributes:
        row: of the table.
        dims: numbers of a vector.
        sha256: hash of weights, window, sample rate and version. It is part of a fingerprint's specification.
        device: where the weights are.
    """

    row: EmbedderRow
    dims: int
    sha256: str
    device: torch.device
    _embed: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, row: EmbedderRow, network: Network, device: torch.device) -> Self:
        """Put weights behind the interface."""
        contents = []
        for path in network.files:
            with open_file(path) as file:
                contents.append(hashlib.file_digest(file, "sha256").hexdigest())
        known = {name: value for name, value in asdict(row).items() if name in ("name", "rate_hz", "window_samples")}
        text = json.dumps(known | {"version": VERSION, "contents": contents}, sort_keys=True)
        return cls(row, network.dims, hashlib.sha256(text.encode()).hexdigest(), device, network.embed)

    def __call__(self, windows_WN: Tensor) -> Tensor:
        """Embed float32 windows `[W, N]`: float32 `[W, D]` on the CPU, no gradient."""
        if windows_WN.shape[1] != self.row.window_samples:
            raise ValueError(f"{self.row.name} takes windows of {self.row.window_samples}, got {windows_WN.shape[1]}")
        with torch.no_grad():
            return self._embed(windows_WN.to(self.device)).float().cpu()
