"""The loss against brute force."""

import pytest
import torch

from lumina_ray.gradients import chunk_losses
from lumina_ray.model.interface import Prediction, valid_targets

B, K, T, C, D = 2, 4, 12, 7, 5


@pytest.fixture
def random_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden_BKTD = torch.randn(B, K, T, D, generator=generator, dtype=torch.float64)
    heads_KCD = torch.randn(K, C, D, generator=generator, dtype=torch.float64)
    codes_BKT = torch.randint(0, C, (B, K, T), generator=generator)
    return hidden_BKTD, heads_KCD, codes_BKT, valid_targets([T, 9], K, T, torch.device("cpu"))


def test_loss_is_the_brute_force_loss(random_case) -> None:
    hidden_BKTD, heads_KCD, codes_BKT, valid_BKT = random_case
    logits_BKTC = torch.einsum("bktd,kcd->bktc", hidden_BKTD, heads_KCD).float()
    # Invalid positions must not matter, not even where their values are not numbers.
    logits_BKTC[~valid_BKT] = float("nan")
    weights = (0.4, 1.2, 1.3, 1.4)
    ours = chunk_losses(Prediction(logits_BKTC, hidden_BKTD.float(), valid_BKT), codes_BKT, weights)
    for b in range(B):
        total = 0.0
        for k in range(K):
            n = [T, 9][b] - k
            nll = [-logits_BKTC[b, k, t].log_softmax(0)[codes_BKT[b, k, t]].item() for t in range(n)]
            total += weights[k] / sum(weights) * sum(nll) / n
        assert ours[b].item() == pytest.approx(total, rel=1e-6)
