"""Sample music from a latent diffusion transformer: from noise to latents in equal steps of time.

At each step the predicted velocity v gives the music `x = cos·z − sin·v` and the noise `ε = sin·z + cos·v` that the
present latents z would be made of, and they are mixed again for the next time: DDIM (Song et al. 2021,
arXiv:2010.02502) in the angles of Salimans & Ho 2022, appendix D.

Shape legend: C = rows of the latents, T = frames.
"""

import math
from itertools import pairwise

import numpy as np
import torch

from lumina_ray.model.diffusion.adapter import Condition, DiffusionTransformer

STEPS = 50


def generate(
    model: DiffusionTransformer, duration_s: float, seed: int, condition: Condition, guidance: float
) -> np.ndarray:
    """Make up music: float32 `[n]`, mono at 32 kHz, of the number of frames that have begun.

    Args:
        model: opened in float32.
        duration_s: its length, in seconds.
        seed: of the noise that it begins as.
        condition: what it is conditioned on.
        guidance: how far velocities go from those without text to those under it and beyond; 1 is the text alone.
    """
    return model.decode(sample(model, math.ceil(duration_s * model.frame_rate_hz), seed, condition, guidance))


def sample(
    model: DiffusionTransformer, n_frames: int, seed: int, condition: Condition, guidance: float
) -> torch.Tensor:
    """Make up latents: float32 `[C, n_frames]`; arguments as in `generate`."""
    whole = -(-n_frames // model.settings.patch) * model.settings.patch
    shape = (1, model.representation.rows, whole)
    z_1CT = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(model.device)
    # Stable Audio's guidance keeps the lengths, and leaves out what is attended to.
    nothing = Condition(torch.zeros_like(condition.tokens_RND), condition.duration_R1G)
    both = Condition(*(torch.cat(pair) for pair in zip(_parts(condition), _parts(nothing), strict=True)))
    angles = torch.linspace(math.pi / 2, 0, STEPS + 1).tolist()
    with torch.no_grad():
        for angle, following in pairwise(angles):
            times_2 = torch.full((2,), angle / (math.pi / 2), device=model.device)
            with_text, without = model.velocity(z_1CT.repeat(2, 1, 1), times_2, [n_frames] * 2, both).split(1)
            v_1CT = without + guidance * (with_text - without)
            music_1CT = math.cos(angle) * z_1CT - math.sin(angle) * v_1CT
            noise_1CT = math.sin(angle) * z_1CT + math.cos(angle) * v_1CT
            z_1CT = math.cos(following) * music_1CT + math.sin(following) * noise_1CT
    return z_1CT[0, :, :n_frames]


def _parts(condition: Condition) -> tuple[torch.Tensor, torch.Tensor]:
    return condition.tokens_RND, condition.duration_R1G
