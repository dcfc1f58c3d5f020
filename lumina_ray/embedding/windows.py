"""Cuts a chunk into an embedder's windows: always the same ones, so that a vector never depends on chance.

Shape legend: W = windows, N = samples of a window, T = frames of the music model.
"""

import math

import numpy as np
import soxr

from lumina_ray.embedding.table import EmbedderRow
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


def cut_windows(samples: np.ndarray, heard_T: np.ndarray, row: EmbedderRow) -> tuple[np.ndarray, np.ndarray]:
    """Resample a chunk and lay as few windows over it as cover it, evenly; a shorter chunk is repeated.

    Args:
        samples: float32 `[n]`, mono, 32 kHz.
        heard_T: bool, which of the chunk's frames hold sound.
        row: of the embedder.

    Returns:
        Windows, float32 `[W, N]`, and float64 `[W]`, the fraction of frames with sound in each; all 1 where none has.
    """
    audio = soxr.resample(samples, SAMPLE_RATE_HZ, row.rate_hz).astype(np.float32)
    n, N = len(audio), row.window_samples
    if n < N:
        return np.resize(audio, N)[None], np.ones(1)
    W = math.ceil(n / N)
    starts = [round(i * (n - N) / max(W - 1, 1)) for i in range(W)]
    frames = [slice(round(s * len(heard_T) / n), round((s + N) * len(heard_T) / n)) for s in starts]
    sound = np.array([heard_T[of].mean() for of in frames])
    return np.stack([audio[s : s + N] for s in starts]), sound if sound.any() else np.ones(W)
