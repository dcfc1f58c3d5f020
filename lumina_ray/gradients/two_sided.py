"""Two-sided projections of weight gradients, made from captured factors alone.

`L G Rᵀ = Σ_s (L dy_s)(R x_s)ᵀ`: projecting the factors first costs `S (pM + qN)`, and the `M × N` gradient is never
made (Choe et al. 2024, "What is Your Data Worth to GPT?", §4.1, LoGra).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lumina_ray.gradients.capture import WeightCall


def two_sided_projection(
    call: WeightCall, left_pM: Tensor, right_qN: Tensor, rows: Sequence[int], scales: Sequence[float]
) -> Tensor:
    """Project the gradient `Σ_i scales[i] · G(chunk rows[i])` of one call from both sides: float32 `[p, q]`.

    Args:
        call: captured factors of a batch.
        left_pM: float32 matrix that projects the gradient of the output. Its columns are the rows of the weight that
            the call used.
        right_qN: float32 matrix that projects the input.
        rows: positions of the chunks in the batch.
        scales: weight of each of these chunks.
    """
    total_pq = torch.zeros(len(left_pM), len(right_qN), device=left_pM.device)
    for b, scale in zip(rows, scales, strict=True):
        grad_Sp = call.output_grad_BSM[b].float() @ left_pM.T
        input_Sq = call.input_BSN[b].float() @ right_qN.T
        total_pq.add_(grad_Sp.T @ input_Sq, alpha=scale)
    return total_pq
