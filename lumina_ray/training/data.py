"""Songs, and windows of them. Every random draw follows from (seed, step), so that a restart needs no random state."""

import math
import os

import numpy as np
import torch
from torch import Tensor

from lumina_ray.audio import load_audio
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.storage import locate


def load_songs(manifest: str | os.PathLike[str]) -> list[np.ndarray]:
    """Decode every song of a manifest: float32 `[n]` each, mono, 32 kHz, in the manifest's order.

    Raises:
        ManifestError: the manifest cannot be read.
        AudioError: a song cannot be decoded. Unlike in a catalog, no song is skipped.
    """
    return [load_audio(path).samples for path in read_manifest(locate(manifest))["path"].to_pylist()]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random generator of one training step."""
    return torch.Generator().manual_seed((seed << 32) + step)


def random_windows(songs: list[np.ndarray] | list[Tensor], size: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw windows of random songs along their last dimension: `[batch, …, size]`.

    Songs are drawn in proportion to their length. A song that is shorter than the window is not drawn.

    Raises:
        ValueError: every song is shorter than the window.
    """
    lengths = torch.tensor([max(song.shape[-1] - size + 1, 0) for song in songs], dtype=torch.float64)
    if not lengths.any():
        raise ValueError(f"no song is as long as a window of {size}; the longest has {max(s.shape[-1] for s in songs)}")
    windows = []
    for i in torch.multinomial(lengths, batch, replacement=True, generator=generator).tolist():
        start = int(torch.randint(int(lengths[i]), (1,), generator=generator))
        windows.append(torch.as_tensor(songs[i][..., start : start + size]))
    return torch.stack(windows)


def aligned_windows(songs: list[Tensor], size: int) -> Tensor:
    """Cut every song into consecutive windows, and add the window that ends with the song: `[n, …, size]`.

    Windows start where fingerprints' chunks start, so that fingerprints ask the model about sequences that it was
    trained on.

    Raises:
        ValueError: every song is shorter than the window.
    """
    windows = []
    for song in songs:
        last = song.shape[-1] - size
        starts = [*range(0, last, size), last] if last >= 0 else []
        windows += [song[..., start : start + size] for start in starts]
    if not windows:
        raise ValueError(f"no song is as long as a window of {size}; the longest has {max(s.shape[-1] for s in songs)}")
    return torch.stack(windows)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: a linear warm-up, then a cosine down to a twentieth of the peak.

    The warm-up takes a tenth of the steps, and at most 100.
    """
    warmup = min(100, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
