"""A learner small enough that a training takes milliseconds, in float64 or float32."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lumina_ray.replay.plan import Plan
from lumina_ray.replay.training import Training
from tests.training.synthetic import patterned_codes

SIZE, CODES, CODEBOOKS = 6, 11, 2
CAPTIONS = ("slow organ, bells", "fast guitar", None, "slow organ", "medium bells, drums")
PLAN = Plan(seed=2, epochs=5, batch=2, window_frames=24, rate=3e-2, clip=0.7)


class ToyLearner:
    """Predicts each codebook's next code from the code before it and from the length of the text."""

    def __init__(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.frozen = nn.Linear(1, SIZE)
        self.module = nn.ModuleDict({"codes": nn.Embedding(CODES, SIZE), "heads": nn.Linear(SIZE, CODEBOOKS * CODES)})
        for parameter in (*self.module.parameters(), *self.frozen.parameters()):
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.module.to(dtype)
        self.frozen.to(dtype)
        self.device = torch.device("cpu")

    def losses(self, codes_BKT: Tensor, texts: Sequence[str | None]) -> Tensor:
        B, K, T = codes_BKT.shape
        with torch.no_grad():
            lengths_B1 = torch.tensor([[len(text or "") / 20] for text in texts], dtype=self.frozen.weight.dtype)
            text_B1S = self.frozen(lengths_B1)[:, None]
        hidden_BTS = torch.tanh(self.module["codes"](codes_BKT[:, :, :-1]).sum(1) + text_B1S)
        logits_BTKC = self.module["heads"](hidden_BTS).view(B, T - 1, K, CODES)
        nll = functional.cross_entropy(logits_BTKC.flatten(0, 2), codes_BKT[:, :, 1:].mT.flatten(), reduction="none")
        return nll.view(B, T - 1, K).mean(1)


def toy_songs() -> list[Tensor]:
    """Five songs, the third of which has one short window."""
    lengths = (48, 48, 12, 24, 48)
    return [patterned_codes(seed, n, CODES, CODEBOOKS) for seed, n in enumerate(lengths)]


def toy_training(dtype: torch.dtype = torch.float32, plan: Plan = PLAN) -> Training:
    """A training whose gradients are clipped in some steps and not in others."""
    return Training(ToyLearner(dtype), toy_songs(), CAPTIONS, plan)
