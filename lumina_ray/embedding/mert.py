"""MERT-v1-95M as the HubertModel that it is: the mean of the last hidden states of windows of 5 s, 768 numbers.

Li et al. 2024 (arXiv:2306.00107). Its own code is for options that this checkpoint does not use: a spectrogram beside
the waveform, DeepNorm, relaxed attention. Without them it is HuBERT (Hsu et al. 2021, arXiv:2106.07447).

The published weights are CC-BY-NC 4.0, not for commercial use. They are never bundled and never fetched here.

Shape legend: W = windows, N = samples, T = frames, D = width.
"""

import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel

from lumina_ray.embedding.interface import Network
from lumina_ray.embedding.open import check_file, unreadable
from lumina_ray.embedding.pretrained import from_pretrained, weights_file

_UNLIKE_HUBERT = {
    "feature_extractor_cqt": "a spectrogram beside the waveform",
    "deepnorm": "DeepNorm",
    "conv_pos_batch_norm": "a batch normalisation of positions",
}
# MERT's feature extractor gives every window zero mean and unit variance, with this added to the variance.
_EPSILON = 1e-7


def load(folder: Path, device: torch.device) -> Network:
    """Load MERT-v1-95M, or another HuBERT, from a folder in the transformers format.

    Raises:
        ModelError: the folder holds something else, or a MERT that is no HuBERT.
    """
    path = check_file(folder / "config.json", "mert")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        unlike = [what for name, what in _UNLIKE_HUBERT.items() if values.get(name)]
        if values.get("attention_relax", -1.0) > 0:
            unlike.append("relaxed attention")
        # The name of the architecture is MERT's own, and so is the address of its code.
        config = HubertConfig(**{k: v for k, v in values.items() if k not in ("model_type", "auto_map")})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise unreadable(folder, "mert", f"config.json: {error}") from error
    if unlike:
        raise unreadable(folder, "mert", f"it has {' and '.join(unlike)}, which HuBERT has not")
    files = [path, weights_file(folder, "mert")]
    model = from_pretrained(HubertModel, folder, "mert", config=config).to(device)

    def embed(windows_WN: Tensor) -> Tensor:
        centred_WN = windows_WN - windows_WN.mean(dim=1, keepdim=True)
        scaled_WN = centred_WN / (centred_WN.square().mean(dim=1, keepdim=True) + _EPSILON).sqrt()
        return model(scaled_WN).last_hidden_state.mean(dim=1)

    return Network(embed, config.hidden_size, files)
