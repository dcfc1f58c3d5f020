"""Random latent diffusion transformers small enough for a unit test."""

from pathlib import Path

import torch
from transformers import EncodecModel

from lumina_ray.model.diffusion.adapter import DiffusionTransformer, LatentSettings
from lumina_ray.training.captions import vocabulary, word_tokenizer
from lumina_ray.training.codec import codec_config
from lumina_ray.training.dit import export_dit, new_dit

CAPTIONS = ["slow organ", "fast piano"]


def tiny_codec() -> EncodecModel:
    config = codec_config()
    config.num_filters, config.num_lstm_layers, config.hidden_size, config.codebook_dim = 4, 1, 8, 8
    torch.manual_seed(0)
    return EncodecModel(config).eval()


def tiny_dit(codec: EncodecModel | None = None, patch: int = 4) -> DiffusionTransformer:
    """An unsaved random model of 8 layers whose every weight matters."""
    settings = LatentSettings(patch, tuple(0.01 * i for i in range(8)), (0.5,) * 8, 3.0)
    tokenizer = word_tokenizer(vocabulary(CAPTIONS))
    model = new_dit(codec or tiny_codec(), tokenizer, settings, dim=32, heads=2, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            if parameter.dim() > 1:
                # Matrices that begin as zero would hide what is behind them.
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5)
    return model


def export_tiny_dit(folder: Path) -> None:
    codec = tiny_codec()
    export_dit(tiny_dit(codec), codec, folder)
