"""Gradients of one chunk's loss with respect to the tracked tensors, and to nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lumina_ray.gradients.loss import chunk_losses
from lumina_ray.model.interface import MusicModel


def freeze_all_but(model: MusicModel, tracked: Sequence[nn.Parameter]) -> None:
    """Let autograd build a graph for the tracked parameters only; below the lowest of them it then builds none."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in tracked:
        parameter.requires_grad_(True)


def chunk_gradients(
    model: MusicModel,
    codes_KT: Tensor,
    n_frames: int,
    tracked: Sequence[nn.Parameter],
    codebook_weights: tuple[float, ...],
) -> list[Tensor]:
    """Gradients of a chunk's weighted loss, one float32 tensor for each tracked parameter, shaped like it.

    The parameters must be the ones given to `freeze_all_but`.
    """
    codes_1KT = codes_KT[None]
    prediction = model.predict(codes_1KT, [n_frames])
    loss = chunk_losses(prediction, codes_1KT, codebook_weights).sum()
    return list(torch.autograd.grad(loss, tracked))
