"""Times and noises that a diffusion loss is a mean over: hashes of their positions, the same for all songs.

With the same draws, two songs differ by themselves and not by their noise, and so do the losses of one song before and
after a step of unlearning. Times are stratified: one lies in each of M/2 equal parts of (0, 1). At every time there are
two draws, a noise and its opposite, so that what is odd in the noise cancels (docs/diffusion.md has the measurement).

This is NumPy on a CPU: logarithms and cosines differ in their last bits between devices, and what is kept for the next
chunk must be numbers also while memory is predicted on tensors without data.

Shape legend: M = draws, C = rows of the latents, T = frames.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lumina_ray.vocabulary import Draws

_BITS = 53
# Stream 0 is that of the times; every pair's noise has two more.
_TIMES = 0


def drawn_times(draws: Draws) -> Tensor:
    """Times in (0, 1), ascending, each twice: float32 `[M]` on the CPU; 0 is the music, 1 is noise."""
    pairs = draws.count // 2
    times = (np.arange(pairs) + _uniform(draws.seed, _TIMES, pairs)) / pairs
    return torch.from_numpy(times.astype(np.float32).repeat(2))


def drawn_noise(draws: Draws, n_rows: int, n_frames: int) -> Tensor:
    """Standard normal noise of each draw: float32 `[M, C, T]` on the CPU, not to be written to.

    A frame's noise does not depend on the number of frames after it. It is made by Box and Muller's transform.
    """
    return torch.from_numpy(_noise(draws, n_rows, n_frames))


@lru_cache(maxsize=4)
def _noise(draws: Draws, n_rows: int, n_frames: int) -> np.ndarray:
    n = n_rows * n_frames
    noises = []
    for pair in range(draws.count // 2):
        radius_n = np.sqrt(-2 * np.log(_uniform(draws.seed, 1 + 2 * pair, n)))
        noise_n = radius_n * np.cos(2 * np.pi * _uniform(draws.seed, 2 + 2 * pair, n))
        noise_CT = noise_n.astype(np.float32).reshape(n_frames, n_rows).T
        noises += [noise_CT, -noise_CT]
    return np.stack(noises)


def _uniform(seed: int, stream: int, count: int) -> np.ndarray:
    """Numbers in (0, 1): float64 `[count]`."""
    start = _splitmix64(np.array([seed * 1_000_003 + stream], np.uint64))
    bits = _splitmix64(np.arange(count, dtype=np.uint64) + start) & np.uint64((1 << _BITS) - 1)
    return (bits.astype(np.float64) + 0.5) / 2**_BITS


def _splitmix64(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014) on uint64, where sums and products wrap around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)
