"""Embedders with tiny random weights, in the files that the published ones come in."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, HubertConfig, HubertModel

from lumina_ray.embedding.clews import CHECKPOINT_FILE, CONFIGURATION_FILE, Clews

CLEWS: dict[str, Any] = {
    "data": {"samplerate": 16_000},
    "model": {
        "name": "clews",
        "shingling": {"len": 20, "hop": 20},
        "cqt": {"hoplen": 0.1, "noctaves": 7, "nbinsoct": 12, "fscale": 1, "pool": 5},
        "frontend": {"cqtpow": 0.5, "channels": [4, 6]},
        "backbone": {"blocks": [2, 1], "channels": [6, 8], "down": [1, 2]},
        "zdim": 10,
    },
}
"""A configuration of CLEWS in fewer channels, blocks and frames."""


def write_clap(folder: Path, seed: int = 0, **audio: Any) -> ClapModel:
    """Write a random CLAP of 16 numbers."""
    torch.manual_seed(seed)
    config = ClapConfig(
        audio_config={
            "window_size": 4, "num_mel_bins": 16, "spec_size": 128, "patch_size": 4, "patch_stride": [4, 4],
            "num_classes": 2, "hidden_size": 32, "projection_dim": 16, "depths": [1, 1], "num_hidden_layers": 2,
            "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16, "enable_fusion": False, **audio,
        },
        text_config={
            "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "intermediate_size": 8, "max_position_embeddings": 16, "projection_dim": 16,
        },
        projection_dim=16,
    )  # fmt: skip
    model = ClapModel(config).eval()
    model.save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=48_000, max_length_s=10, frequency_min=50, truncation="rand_trunc"
    ).save_pretrained(folder)
    return model


def write_mert(folder: Path, seed: int = 0, **more: Any) -> HubertModel:
    """Write a random HuBERT of 12 numbers under MERT's name, with the options that MERT's own code has."""
    torch.manual_seed(seed)
    config = HubertConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=[8, 8],
        conv_kernel=[10, 8], conv_stride=[40, 8], num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = HubertModel(config).eval()
    model.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values |= {"model_type": "mert_model", "auto_map": {"AutoModel": "modeling_MERT.MERTModel"}}
    values |= {"feature_extractor_cqt": False, "deepnorm": False, "attention_relax": -1.0} | more
    (folder / "config.json").write_text(json.dumps(values))
    return model


def write_clews(folder: Path, **changed: torch.Tensor) -> Clews:
    """Write a random CLEWS of 10 numbers as its training does: with its configuration, and more, in the checkpoint."""
    torch.manual_seed(0)
    network = Clews(CLEWS["model"], 16_000, kernel=256).eval()
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if name.startswith("cqt.0"):
                values.copy_(torch.rand(values.shape) if name.endswith("lenghts") else torch.randn(values.shape) / 256)
            elif name.endswith("gain"):
                values.fill_(0.7)
            elif name.endswith("running_mean"):
                values.normal_(0, 0.1)
    state = {"model": network.state_dict() | changed, "conf": OmegaConf.create(CLEWS), "epoch": 3, "cost_best": 0.5}
    torch.save(state, folder / CHECKPOINT_FILE)
    (folder / CONFIGURATION_FILE).write_text(yaml.safe_dump(CLEWS))
    return network
