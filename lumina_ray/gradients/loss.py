"""The loss of a chunk: averaged over the numbers that count in each row, then weighted over rows.

A row is a codebook of a model that predicts codes, or one number of all frames of latents.

Shape legend: B = chunks, K = codebooks or rows of latents, T = frames.
"""

import torch
from torch import Tensor

from lumina_ray.model.interface import Losses, Prediction


def row_losses(losses: Losses) -> Tensor:
    """Mean loss of every row over its valid positions: float32 `[B, K]`; 0 where none is valid."""
    # `where` and not a product: an invalid position must not reach the sum even where its value is infinite.
    values_BKT = torch.where(losses.valid_BKT, losses.values_BKT, 0.0)
    return values_BKT.sum(dim=2) / losses.valid_BKT.sum(dim=2).clamp(min=1)


def batch_losses(losses: Losses, row_weights: tuple[float, ...]) -> Tensor:
    """Loss of every chunk, float32 `[B]`: the weighted mean of its rows' losses.

    Args:
        losses: of every number.
        row_weights: K non-negative weights; only their ratios matter.
    """
    mean_BK = row_losses(losses)
    weights_K = mean_BK.new_tensor(row_weights)
    return mean_BK @ (weights_K / weights_K.sum())


def codebook_losses(prediction: Prediction, codes_BKT: Tensor) -> Tensor:
    """Cross-entropy of every codebook, averaged over its valid positions: float32 `[B, K]`, in nats per code.

    Args:
        prediction: the model's logits, and which positions are valid.
        codes_BKT: int64 `[B, K, T]`, the codes that were teacher-forced.
    """
    return row_losses(prediction.losses(codes_BKT))


def chunk_losses(prediction: Prediction, codes_BKT: Tensor, codebook_weights: tuple[float, ...]) -> Tensor:
    """Loss of every chunk, float32 `[B]`, in nats per code.

    It is the weighted mean of the codebooks' losses. With equal weights it is audiocraft's training loss of one chunk.

    Args:
        prediction: the model's logits, and which positions are valid.
        codes_BKT: int64 `[B, K, T]`, the codes that were teacher-forced.
        codebook_weights: K non-negative weights; only their ratios matter.
    """
    return batch_losses(prediction.losses(codes_BKT), codebook_weights)
