"""Songs, and windows of them. Every random draw follows from (seed, step), so that a restart needs no random state."""

import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumina_ray.audio import load_audio
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.storage import locate


@dataclass(frozen=True)
class Song:
    """A song to train on.

    Attributes:
        name: what error messages call it.
        samples: float32 `[n]`, mono, 32 kHz.
        caption: words for its music, or None where there are none.
    """

    name: str
    samples: np.ndarray
    caption: str | None = None


def load_songs(manifest: str | os.PathLike[str]) -> list[Song]:
    """Decode every song of a manifest, in the manifest's order.

    Raises:
        ManifestError: the manifest cannot be read.
        AudioError: a song cannot be decoded. Unlike in a catalog, no song is skipped.
    """
    rows = read_manifest(locate(manifest)).to_pylist()
    return [Song(row["path"], load_audio(row["path"]).samples, _words_or_none(row.get("caption"))) for row in rows]


def _words_or_none(caption: str | None) -> str | None:
    return caption if caption and caption.strip() else None


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


@dataclass(frozen=True)
class Windows:
    """Windows of songs' codes.

    Attributes:
        codes_NKT: int64, T being the length of the longest; zeros after the end of a shorter one.
        frames: how many frames of each window are real.
        songs: the position of the song that each window is from.
    """

    codes_NKT: Tensor
    frames: list[int]
    songs: list[int]


def aligned_windows(songs: list[Tensor], size: int) -> Windows:
    """Cut every song into consecutive windows, and add the window that ends with the song.

    Windows start where fingerprints' chunks start, so that fingerprints ask the model about sequences that it was
    trained on. A song that is shorter than a window is one by itself. So chunks may be given in place of songs.

    Args:
        songs: codes, int64 `[K, T]` each.
        size: frames of a window.
    """
    windows, owners = [], []
    for owner, song_KT in enumerate(songs):
        last = max(song_KT.shape[-1] - size, 0)
        starts = [*range(0, last, size), last]
        windows += [song_KT[..., start : start + size] for start in starts]
        owners += [owner] * len(starts)
    frames = [window_KT.shape[-1] for window_KT in windows]
    filled = [torch.nn.functional.pad(w, (0, max(frames) - n)) for w, n in zip(windows, frames, strict=True)]
    return Windows(torch.stack(filled), frames, owners)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: a linear warm-up, then a cosine down to a twentieth of the peak.

    The warm-up takes a tenth of the steps, and at most 100.
    """
    warmup = min(100, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
