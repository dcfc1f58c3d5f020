"""Two-sided projections of weight gradients, from captured factors alone.

`L G Rᵀ = Σ_s (L dy_s)(R x_s)ᵀ`: projecting the factors first costs `S (pM + qN)` and never forms the `M × N` gradient
(Choe et al. 2024, "What is Your Data Worth to GPT?", §4.1, LoGra).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lumina_ray.gradients.capture import Use


def two_sided_projection(
    use: Use, left_pM: Tensor, right_qN: Tensor, rows: Sequence[int], shares: Sequence[float]
) -> Tensor:
    """Float32 `[p, q]`: the projection of `Σ_i shares[i] · G(chunk rows[i])` of one use of a weight.

    Args:
        left_pM: projects the gradient of the output; the rows of the weight that were used.
        right_qN: projects the input.
    """
    total_pq = torch.zeros(len(left_pM), len(right_qN), device=left_pM.device)
    for b, share in zip(rows, shares, strict=True):
        grad_Sp = use.output_grad_BSM[b].float() @ left_pM.T
        input_Sq = use.input_BSN[b].float() @ right_qN.T
        total_pq.add_(grad_Sp.T @ input_Sq, alpha=share)
    return total_pq
