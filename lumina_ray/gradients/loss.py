"""The teacher-forced loss of a chunk: masked cross-entropy, averaged per codebook, then weighted over codebooks.

Shape legend: B = chunks, K = codebooks, T = frames, C = codes of a codebook.
"""

import torch
from torch import Tensor
from torch.nn import functional

from lumina_ray.model.interface import Prediction


def codebook_losses(prediction: Prediction, codes_BKT: Tensor) -> Tensor:
    """Cross-entropy of every codebook, averaged over its valid positions: float32 `[B, K]`, in nats per code.

    Args:
        prediction: the model's logits, and which positions are valid.
        codes_BKT: int64 `[B, K, T]`, the codes that were teacher-forced.
    """
    logits_BKTC = prediction.logits_BKTC
    # Half precision is too coarse for a loss; float64 stays, for models that derivatives are checked on.
    logits_BKTC = logits_BKTC.to(torch.promote_types(logits_BKTC.dtype, torch.float32))
    nll_BKT = functional.cross_entropy(logits_BKTC.flatten(0, 2), codes_BKT.flatten(), reduction="none").view(
        codes_BKT.shape
    )
    # `where` and not a product: an invalid position must not reach the sum even where its value is infinite.
    nll_BKT = torch.where(prediction.valid_BKT, nll_BKT, 0.0)
    return nll_BKT.sum(dim=2) / prediction.valid_BKT.sum(dim=2).clamp(min=1)


def chunk_losses(prediction: Prediction, codes_BKT: Tensor, codebook_weights: tuple[float, ...]) -> Tensor:
    """Loss of every chunk, float32 `[B]`, in nats per code.

    It is the weighted mean of the codebooks' losses. With equal weights it is audiocraft's training loss of one chunk.

    Args:
        prediction: the model's logits, and which positions are valid.
        codes_BKT: int64 `[B, K, T]`, the codes that were teacher-forced.
        codebook_weights: K non-negative weights; only their ratios matter.
    """
    mean_BK = codebook_losses(prediction, codes_BKT)
    weights_K = mean_BK.new_tensor(codebook_weights)
    return mean_BK @ (weights_K / weights_K.sum())
