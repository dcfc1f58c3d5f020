"""Gradients of pieces and queries under a Music Transformer, as the methods of attribution take them.

Shape legend: n = pieces or queries, S = parameters of the model, D = numbers of a projected gradient, W = windows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.symbolic.pieces import Piece, Query

DIMS = 4096
_NONZEROS, _SEED = 4, 422024


class Predictor(Protocol):
    """A model of events, of whatever architecture."""

    def losses(self, events_WT: Tensor, /) -> Tensor:
        """Losses of the events that it predicts, in nats, one row a window."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that a gradient is by."""


@dataclass(frozen=True)
class Passage:
    """Events whose mean loss is one number.

    Attributes:
        events_WT: int64, windows of one length.
        first: place among each window's losses of the first one that counts.
    """

    events_WT: Tensor
    first: int = 0


def passages(pieces: Sequence[Piece], queries: Sequence[Query]) -> list[Passage]:
    """Give pieces, and then queries, as gradients are asked for."""
    return [
        *(Passage(torch.from_numpy(piece.learned_WT)) for piece in pieces),
        *(Passage(torch.from_numpy(query.events_T)[None], query.first) for query in queries),
    ]


def gradients(model: Predictor, of: Sequence[Passage]) -> Iterator[tuple[float, Tensor]]:
    """Mean loss of each, in nats, and its gradient by all parameters end to end, float32 `[S]`."""
    parameters = list(model.parameters())
    for one in of:
        loss = model.losses(one.events_WT)[:, one.first :].mean()
        parts = torch.autograd.grad(loss, parameters)
        yield float(loss.detach()), torch.cat([part.flatten() for part in parts])


def count_parameters(model: Predictor) -> int:
    """S."""
    return sum(p.numel() for p in model.parameters())


def projected(
    model: Predictor, of: Sequence[Passage], dims: int = DIMS, nonzeros: int = _NONZEROS, seed: int = _SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Losses, float64 `[n]`, and gradients after a sparse projection that is the same for all, float32 `[n, D]`.

    Args:
        dims, nonzeros, seed: of the projection, as `SparseProjection` has them; D is `dims`.
    """
    projection = SparseProjection(count_parameters(model), dims, nonzeros, seed, keeps=True)
    losses, rows = [], []
    for loss, gradient_S in gradients(model, of):
        out = torch.zeros(dims, dtype=torch.float64, device=gradient_S.device)
        projection.add(out, 0, gradient_S)
        losses.append(loss)
        rows.append(out.float().cpu().numpy())
    return np.array(losses), np.stack(rows)
