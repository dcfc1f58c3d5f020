"""Weights at half the memory: published checkpoints are float16 files."""

import torch
from torch import nn


def hold_linears_in_float16(language_model: nn.Module) -> None:
    """Hold the weights of linear layers as float16, each where that loses nothing; other parameters stay as they are.

    Only for models whose products run in lower precision, which rounds these weights anyway;
    `lumina_ray/gradients/capture.py` casts them up where one runs in float32. Call it before the model moves to a GPU,
    which then never holds them in float32.
    """
    for module in language_model.modules():
        if isinstance(module, nn.Embedding) or getattr(module, "bias", None) is not None:
            continue
        for weight in module.parameters(recurse=False):
            half = weight.detach().half()
            # One dimension: a norm's.
            if weight.ndim == 2 and torch.equal(half.float(), weight):
                weight.data = half
