"""Codecs whose latents a diffusion transformer learns: EnCodec's encoder before its quantiser, or Oobleck.

Shape legend: C = rows of the latents, T = frames, N = samples.
"""

import math
from typing import Any, Protocol

import numpy as np
import soxr
import torch
from torch import Tensor
from transformers import EncodecModel

from lumina_ray.errors import ModelError
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


class LatentCodec(Protocol):
    """Audio to latents and back, in evaluation mode."""

    n_rows: int
    frame_rate_hz: float

    def encode(self, samples: np.ndarray) -> Tensor:
        """Encode float32 `[N]` mono samples at 32 kHz to float32 `[C, T]`, T frames that have begun; no gradient."""
        ...

    def decode(self, latents_CT: Tensor) -> np.ndarray:
        """Decode float32 `[C, T]` to float32 `[N]` mono samples at 32 kHz."""
        ...


class EncodecLatents:
    """The continuous latents between EnCodec's encoder and its quantiser; see `LatentCodec`."""

    def __init__(self, model: EncodecModel, folder: str) -> None:
        """
        Raises:
            ModelError: not mono at 32 kHz.
        """
        config = model.config
        if config.audio_channels != 1 or config.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelError(
                f"{folder}: its EnCodec has {config.audio_channels} channels at {config.sampling_rate} Hz; mono at "
                f"{SAMPLE_RATE_HZ} Hz is needed"
            )
        self._model = model
        self.n_rows: int = config.hidden_size
        self.frame_rate_hz: float = SAMPLE_RATE_HZ / math.prod(config.upsampling_ratios)

    def encode(self, samples: np.ndarray) -> Tensor:
        with torch.no_grad():
            return self._model.encoder(torch.tensor(samples, device=self._model.device)[None, None])[0]

    def decode(self, latents_CT: Tensor) -> np.ndarray:
        with torch.no_grad():
            return self._model.decoder(latents_CT[None])[0, 0].float().cpu().numpy()


class OobleckLatents:
    """Means of Stable Audio's variational autoencoder; see `LatentCodec`.

    Audio is resampled from 32 kHz, so that nothing above 16 kHz is heard, and put on all channels alike.
    """

    def __init__(self, model: Any) -> None:
        """Put a `diffusers.AutoencoderOobleck` behind the interface."""
        self._model = model
        self._rate_hz: int = model.config.sampling_rate
        self._hop: int = math.prod(model.config.downsampling_ratios)
        self.n_rows: int = model.config.decoder_input_channels
        self.frame_rate_hz: float = self._rate_hz / self._hop

    def encode(self, samples: np.ndarray) -> Tensor:
        n_frames = math.ceil(len(samples) * self.frame_rate_hz / SAMPLE_RATE_HZ)
        resampled = soxr.resample(samples, SAMPLE_RATE_HZ, self._rate_hz)
        padded = np.zeros(n_frames * self._hop, np.float32)
        padded[: len(resampled)] = resampled[: len(padded)]
        wave_1AN = torch.from_numpy(padded).to(self._model.device).expand(1, self._model.config.audio_channels, -1)
        with torch.no_grad():
            return self._model.encode(wave_1AN).latent_dist.mean[0]

    def decode(self, latents_CT: Tensor) -> np.ndarray:
        with torch.no_grad():
            wave_AN = self._model.decode(latents_CT[None]).sample[0]
        return soxr.resample(wave_AN.mean(dim=0).float().cpu().numpy(), self._rate_hz, SAMPLE_RATE_HZ)
