"""Songs and random windows of them. Every draw follows from (seed, step), so a restart needs no saved random state."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lumina_ray.audio import load_audio
from lumina_ray.catalog.manifest import read_manifest


def load_songs(manifest: Path) -> list[np.ndarray]:
    """Decode every song of a manifest to mono 32 kHz float32.

    Raises:
        AudioError: a song cannot be used; training data is not optional.
    """
    return [load_audio(path).samples for path in read_manifest(manifest)["path"].to_pylist()]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random generator of one training step."""
    return torch.Generator().manual_seed((seed << 32) + step)


def random_windows(songs: list[np.ndarray] | list[Tensor], size: int, batch: int, generator: torch.Generator) -> Tensor:
    """`batch` windows of `size` from the last dimension of random songs, `[batch, …, size]`.

    Songs are drawn in proportion to their length; one shorter than the window is not drawn.
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
    """The consecutive windows of every song, and the one that ends where the song does, `[n, …, size]`.

    They start where fingerprints' chunks start, so that the model is asked about the very sequences it was trained on.

    Raises:
        ValueError: no song is that long.
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
    """Linear warm-up over a tenth of the steps and at most 100, then a cosine down to a twentieth of the peak."""
    warmup = min(100, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
