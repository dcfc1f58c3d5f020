"""A song's codes or latents: the canonical input of every fingerprint, stored once and reused by all of them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lumina_ray.audio import Chunk, cut_chunks
from lumina_ray.audio.level import FRAME_SAMPLES
from lumina_ray.errors import ModelError
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, STORED_AS, SongCodes

if TYPE_CHECKING:
    # The model's types need torch, which a job's tasks do not load.
    from torch import Tensor

    from lumina_ray.model import AttributableModel

_FULL_SCALE = np.float32(1 / 32_768)


def encode_song(model: "AttributableModel", chunks: Sequence[Chunk]) -> SongCodes:
    """Encode each chunk of a song by itself, so that its codes depend on no other chunk.

    Raises:
        ModelError: the model's codec does not make as many frames as it says.
    """
    stored = np.dtype(STORED_AS[model.representation.name]).newbyteorder("=")
    codes = [model.encode(chunk.samples * _FULL_SCALE).cpu().numpy().astype(stored) for chunk in chunks]
    for chunk, codes_KT in zip(chunks, codes, strict=True):
        wanted = math.ceil(len(chunk.samples) * model.frame_rate_hz / SAMPLE_RATE_HZ)
        if codes_KT.shape[1] != wanted:
            raise ModelError(
                f"model {model.name!r}: its codec makes {codes_KT.shape[1]} frames of {chunk.duration_s:g} s, "
                f"not {wanted}; a codec of {model.frame_rate_hz:g} frames a second is needed"
            )
    heard = (
        frames_heard(chunk.heard, codes_KT.shape[1], model.frame_rate_hz)
        for chunk, codes_KT in zip(chunks, codes, strict=True)
    )
    return SongCodes(tuple(codes), tuple(chunk.start_s for chunk in chunks), tuple(heard))


def encode_prompt(model: "AttributableModel", samples: np.ndarray, name: str) -> "Tensor":
    """Encode what a model is to go on from as a fingerprint's chunk is: int64 codes or float32 latents, `[K, T]`.

    Args:
        samples: float32 `[n]`, mono, 32 kHz, 10 s at most.
        name: the audio's name in error messages.

    Raises:
        AudioError: it is too short, or silent.
        ModelError: see `encode_song`.
    """
    import torch

    (codes_KT,) = encode_song(model, cut_chunks(samples, name)).chunks
    return torch.from_numpy(codes_KT.astype(model.representation.dtype))


def frames_heard(heard_T: np.ndarray, n_frames: int, frame_rate_hz: float) -> np.ndarray:
    """Whether each of a model's frames holds sound: bool `[n_frames]`.

    It does where some 20 ms of it do.

    Args:
        heard_T: bool, whether each frame of 20 ms holds sound.
        n_frames: frames of the model.
        frame_rate_hz: frames of the model in a second.
    """
    edges = np.arange(n_frames + 1) * (SAMPLE_RATE_HZ / FRAME_SAMPLES) / frame_rate_hz
    firsts, ends = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    return np.array([heard_T[first:end].any() for first, end in zip(firsts, ends, strict=True)], bool)
