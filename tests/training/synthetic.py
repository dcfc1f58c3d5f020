"""Synthetic songs and codes."""

import numpy as np
import torch
from torch import Tensor

from lumina_ray.vocabulary import SAMPLE_RATE_HZ


def melody(seed: int, duration_s: float) -> np.ndarray:
    """Four plucked notes per second, all different, over quiet noise: float32 `[n]` at 32 kHz."""
    rng = np.random.default_rng(seed)
    note_s = np.arange(SAMPLE_RATE_HZ // 4) / SAMPLE_RATE_HZ
    pitches_hz = 110 * 4 ** rng.random(round(duration_s * 4))
    notes = [np.sin(2 * np.pi * pitch_hz * note_s) * np.exp(-6 * note_s) for pitch_hz in pitches_hz]
    samples = 0.3 * np.concatenate(notes)
    return (samples + rng.normal(size=len(samples)) * 0.002).astype(np.float32)


def patterned_codes(seed: int, n_frames: int, codebook_size: int, n_codebooks: int = 4) -> Tensor:
    """Codes that repeat four random frames again and again, which a language model learns easily: int64 `[K, T]`."""
    generator = torch.Generator().manual_seed(seed)
    frames_K4 = torch.randint(codebook_size, (n_codebooks, 4), generator=generator)
    return frames_K4.repeat(1, n_frames // 4 + 1)[:, :n_frames]
