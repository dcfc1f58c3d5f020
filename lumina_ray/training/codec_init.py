"""Initial weights with which the codec already reconstructs: each layer starts as principal components of its input.

From the usual random start, the signal dies on its way through the strides. A SEANet autoencoder then needs thousands
of steps before its output resembles its input at all. An ELU is the identity near zero. With small residual branches
and LSTMs, the network is therefore a cascade of linear maps, and the best linear maps are known in closed form: the
leading principal components of the layer's input, and their transposes in the decoder. Training starts from this
hierarchical PCA, with an SI-SDR of 11 dB.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EncodecModel

from lumina_ray.training.data import random_windows, step_generator

_WINDOWS, _WINDOW = 48, 32_000
# Noise on weights that would otherwise be zero, to break their symmetry.
_NOISE = 0.01
_SMALL = 0.3


def initialise_by_components(model: EncodecModel, songs: list[np.ndarray], seed: int) -> None:
    """Set a codec's autoencoder to a hierarchical PCA of the songs, in place.

    Args:
        songs: float32 `[n]` each, mono, 32 kHz.
    """
    generator = step_generator(seed, 1 << 20)
    activations_BCT = random_windows(songs, _WINDOW, _WINDOWS, generator)[:, None]
    encoder, decoder = list(model.encoder.layers), list(model.decoder.layers)
    mirrored = [layer for layer in reversed(decoder) if _is_convolution(layer)]
    with torch.no_grad():
        for layer in (*encoder, *decoder):
            _quieten(layer)
        for layer in encoder:
            if _is_convolution(layer):
                _set_pair(layer.conv, mirrored.pop(0).conv, activations_BCT, generator)
            activations_BCT = layer(activations_BCT)


def _is_convolution(layer: Any) -> bool:
    return hasattr(layer, "conv")


def _quieten(layer: Any) -> None:
    """Make a residual branch or an LSTM small beside the path that skips it."""
    if hasattr(layer, "lstm"):
        for parameter in layer.lstm.parameters():
            parameter.mul_(_SMALL)
    elif hasattr(layer, "block"):
        for convolution in (inner.conv for inner in layer.block if _is_convolution(inner)):
            convolution.weight = convolution.weight * _SMALL
            convolution.bias.zero_()


def _set_pair(
    down: nn.Conv1d, up: nn.Conv1d | nn.ConvTranspose1d, inputs_BCT: Tensor, generator: torch.Generator
) -> None:
    """Set a convolution to the principal components of its input, and its mirror image in the decoder to their inverse.

    Only as many taps of the kernel as the stride are used (one where there is no stride). So frames do not overlap, and
    the transposed map is the inverse. Components are scaled to keep the level of the signal.
    """
    (stride,), (kernel,) = down.stride, down.kernel_size
    first_tap = (kernel - stride) - (kernel - stride) // 2
    _, C, T = inputs_BCT.shape
    frames_BCns = inputs_BCT[..., : T - T % stride].unflatten(2, (-1, stride))
    frames_NF = frames_BCns.transpose(1, 2).flatten(2).flatten(0, 1)
    _, vectors_FF = torch.linalg.eigh(frames_NF.T.double() @ frames_NF.double())
    components_OCs = vectors_FF.flip(1).T[: down.out_channels].float().unflatten(1, (C, stride))
    n = len(components_OCs)
    level = stride**-0.5
    taps = slice(first_tap, first_tap + stride)

    scale = _NOISE / (C * kernel) ** 0.5
    down_weight = torch.randn(down.weight.shape, generator=generator) * scale
    down_weight[:n, :, taps] += components_OCs * level
    up_weight = torch.randn(up.weight.shape, generator=generator) * scale
    if isinstance(up, nn.ConvTranspose1d):
        up_weight[:n, :, taps] += components_OCs / level
    else:
        up_weight[:, :n, taps] += components_OCs.transpose(0, 1) / level
    # The assignment goes through the inverse of weight normalisation, which keeps the parametrisation.
    down.weight, up.weight = down_weight, up_weight
    for bias in (down.bias, up.bias):
        if bias is not None:
            bias.zero_()
