"""The teacher-forced loss of a chunk: masked cross-entropy, mean per codebook, weighted over codebooks."""

import torch
from torch import Tensor
from torch.nn import functional

from lumina_ray.model.interface import Prediction


def codebook_losses(prediction: Prediction, codes_BKT: Tensor) -> Tensor:
    """Cross-entropy of every codebook, averaged over its valid positions: float32 `[B, K]`, in nats per code.

    Args:
        codes_BKT: int64 `[B, K, T]`, the codes that were teacher-forced.
    """
    nll_BKT = functional.cross_entropy(
        prediction.logits_BKTC.float().flatten(0, 2), codes_BKT.flatten(), reduction="none"
    ).view(codes_BKT.shape)
    # Selecting, not multiplying: what stands at an invalid position must not reach the sum even if it is infinite.
    nll_BKT = torch.where(prediction.valid_BKT, nll_BKT, 0.0)
    return nll_BKT.sum(dim=2) / prediction.valid_BKT.sum(dim=2).clamp(min=1)


def chunk_losses(prediction: Prediction, codes_BKT: Tensor, codebook_weights: tuple[float, ...]) -> Tensor:
    """Loss of every chunk, float32 `[B]`, in nats per code.

    The codebooks' losses are added with the weights divided by their sum: with one weight for all, audiocraft's
    training loss of one chunk.

    Args:
        codebook_weights: K non-negative weights; their scale does not matter.
    """
    mean_BK = codebook_losses(prediction, codes_BKT)
    weights_K = torch.tensor(codebook_weights, dtype=torch.float32, device=mean_BK.device)
    return mean_BK @ (weights_K / weights_K.sum())
