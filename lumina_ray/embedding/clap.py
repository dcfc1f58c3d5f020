"""LAION's CLAP through transformers: the projected embedding of windows of 10 s, of unit length, 512 numbers.

Wu et al. 2023 (arXiv:2211.06687). transformers' feature extractor cuts longer audio at random; here it only says how a
spectrogram is made, and windows are as long as the model's.

Shape legend: W = windows, N = samples, T = frames, F = mel bands.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import ClapFeatureExtractor, ClapModel
from transformers.audio_utils import spectrogram, window_function

from lumina_ray.embedding.interface import Network
from lumina_ray.embedding.open import check_file, unreadable
from lumina_ray.embedding.pretrained import from_pretrained, weights_file
from lumina_ray.embedding.table import EMBEDDERS

_OF_AUDIO = ("audio_model.", "audio_projection.")


def load(folder: Path, device: torch.device) -> Network:
    """Load a ClapModel without fusion from a folder in the transformers format. Its text side is dropped.

    Raises:
        ModelError: the folder holds something else.
    """
    files = [check_file(folder / file, "clap") for file in ("config.json", "preprocessor_config.json")]
    files.append(weights_file(folder, "clap"))
    model = from_pretrained(ClapModel, folder, "clap", of=_OF_AUDIO)
    try:
        extractor = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(folder, "clap", error) from error
    config, row = model.config.audio_config, EMBEDDERS["clap"]
    if config.enable_fusion:
        raise unreadable(folder, "clap", "it has fusion, which mixes random crops; weights without fusion are needed")
    wanted = (row.rate_hz, row.window_samples, config.num_mel_bins)
    if (found := (extractor.sampling_rate, extractor.nb_max_samples, extractor.feature_size)) != wanted:
        raise unreadable(folder, "clap", f"rate, samples of a window and mel bands are {found}, not {wanted}")
    audio, projection = model.audio_model.to(device), model.audio_projection.to(device)

    def embed(windows_WN: Tensor) -> Tensor:
        mels = [log_mel(extractor, window_N) for window_N in windows_WN.cpu().numpy()]
        features_W1TF = torch.from_numpy(np.stack(mels)).to(device)[:, None]
        return functional.normalize(projection(audio(input_features=features_W1TF).pooler_output), dim=-1)

    return Network(embed, model.config.projection_dim, files)


def log_mel(extractor: ClapFeatureExtractor, window_N: np.ndarray) -> np.ndarray:
    """Decibels of the mel power spectrogram, float32 `[T, F]`, as models without fusion were trained with."""
    return spectrogram(
        window_N,
        window_function(extractor.fft_window_size, "hann"),
        frame_length=extractor.fft_window_size,
        hop_length=extractor.hop_length,
        power=2.0,
        mel_filters=extractor.mel_filters_slaney,
        log_mel="dB",
    ).T.astype(np.float32)
