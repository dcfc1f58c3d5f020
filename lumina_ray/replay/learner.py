"""Learner of a replayed training: the decoder of a model, and the loss of windows of codes under texts.

Shape legend: B = windows, K = codebooks, T = frames.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lumina_ray.gradients import codebook_losses
from lumina_ray.model.transformers_adapter import TransformersMusicGen


class Learner(Protocol):
    """A module that learns, and its loss. Whatever it computes must follow from weights and arguments alone.

    Attributes:
        module: what learns: all of its parameters.
        frozen: what takes part and does not learn.
        device: where both are.
    """

    module: nn.Module
    frozen: nn.Module
    device: torch.device

    def losses(self, codes_BKT: Tensor, texts: Sequence[str | None]) -> Tensor:
        """Compute the loss of each window and codebook, `[B, K]`, in nats per code.

        Args:
            codes_BKT: int64, on `device`.
            texts: one for each window; None is no text.
        """
        ...


class DecoderLearner:
    """The decoder of a MusicGen; its text encoder stays as it is. See `Learner`.

    Dropout is off: it would draw numbers that no seed decides.
    """

    def __init__(self, model: TransformersMusicGen) -> None:
        """Args: a model, whose decoder `module` is from now on."""
        self.module: nn.Module = model.model.decoder.eval().requires_grad_(True)
        self.frozen: nn.Module = nn.ModuleList(model.text.modules())
        self.device = model.device
        self._model = model

    def losses(self, codes_BKT: Tensor, texts: Sequence[str | None]) -> Tensor:
        with torch.no_grad():
            conditions_BND, mask_BN = self._model.text.conditions(texts)
        frames = [codes_BKT.shape[2]] * len(codes_BKT)
        return codebook_losses(self._model.predict(codes_BKT, frames, conditions_BND, mask_BN), codes_BKT)
