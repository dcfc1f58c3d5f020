"""Times and noises that a diffusion loss is a mean over: hashes of their positions, the same for all songs.

With the same draws, two songs differ by themselves and not by their noise, and so do the losses of one song before and
after a step of unlearning. Times are stratified: draw m of M lies in the m-th of M equal parts of (0, 1).

Shape legend: M = draws, C = channels of the latents, T = frames.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from lumina_ray.model.hashing import hashes
from lumina_ray.vocabulary import Draws

_CPU = torch.device("cpu")
_BITS = 53
# Stream 0 is that of the times; every draw's noise has two more.
_TIMES = 0


def drawn_times(draws: Draws) -> Tensor:
    """Times in (0, 1), ascending: float32 `[M]` on the CPU; 0 is the music, 1 is noise."""
    within_M = _uniform(draws.seed, _TIMES, draws.count)
    return ((torch.arange(draws.count, dtype=torch.float64) + within_M) / draws.count).float()


@lru_cache(maxsize=4)
def drawn_noise(draws: Draws, n_channels: int, n_frames: int) -> Tensor:
    """Standard normal noise of each draw: float32 `[M, C, T]` on the CPU, not to be written to.

    A frame's noise does not depend on the number of frames after it. It is made on the CPU by Box and Muller's
    transform, since logarithms and cosines differ in their last bits between devices.
    """
    n = n_channels * n_frames
    noises = []
    for m in range(draws.count):
        radius_n = (-2 * _uniform(draws.seed, 1 + 2 * m, n).log()).sqrt()
        noise_n = radius_n * (2 * math.pi * _uniform(draws.seed, 2 + 2 * m, n)).cos()
        noises.append(noise_n.float().view(n_frames, n_channels).T)
    return torch.stack(noises)


def _uniform(seed: int, stream: int, count: int) -> Tensor:
    """Numbers in (0, 1): float64 `[count]`."""
    bits = hashes(seed, stream, 0, count, _CPU) & ((1 << _BITS) - 1)
    return (bits.double() + 0.5) / 2**_BITS
