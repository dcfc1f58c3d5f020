"""Loss and closed-form head gradients against brute force and autograd."""

import pytest
import torch

from lumina_ray.gradients import chunk_losses, head_gradients
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
    # What stands at invalid positions must not matter, not even when it is not a number.
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


def test_head_gradients_equal_autograd(random_case) -> None:
    hidden_BKTD, heads_KCD, codes_BKT, valid_BKT = random_case
    heads_KCD.requires_grad_(True)
    for b in range(B):
        logits_BKTC = torch.einsum("bktd,kcd->bktc", hidden_BKTD[b : b + 1], heads_KCD)
        prediction = Prediction(logits_BKTC.detach(), hidden_BKTD[b : b + 1], valid_BKT[b : b + 1])
        for k, ours in enumerate(head_gradients(prediction, codes_BKT[b])):
            n = int(valid_BKT[b, k].sum())
            loss = torch.nn.functional.cross_entropy(logits_BKTC[0, k, :n], codes_BKT[b, k, :n])
            (expected_KCD,) = torch.autograd.grad(loss, heads_KCD, retain_graph=True)
            torch.testing.assert_close(ours, expected_KCD[k], rtol=1e-12, atol=1e-14)
