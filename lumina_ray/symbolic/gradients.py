"""Gradients of pieces and queries under a Music Transformer, as the methods of attribution take them.

Shape legend: n = pieces or queries, S = parameters of the model, D = numbers of a projected gradient, W = windows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.symbolic.pieces import Piece, Query
from lumina_ray.symbolic.transformer import MusicTransformer

DIMS = 4096
_NONZEROS, _SEED = 4, 422024


@dataclass(frozen=True)
class Passage:
    """Events whose mean loss is one number.

    Attributes:
        events_WT: int64, windows of one length.
        first: place in each window of the first event that counts.
    """

    events_WT: Tensor
    first: int = 0


def passages(pieces: Sequence[Piece], queries: Sequence[Query]) -> list[Passage]:
    """Give pieces, and then queries, as gradients are asked for."""
    return [
        *(Passage(torch.from_numpy(piece.learned_WT)) for piece in pieces),
        *(Passage(torch.from_numpy(query.events_T)[None], query.first) for query in queries),
    ]


def gradients(model: MusicTransformer, of: Sequence[Passage]) -> Iterator[tuple[float, Tensor]]:
    """Mean loss of each, in nats, and its gradient by all parameters end to end, float32 `[S]`."""
    parameters = list(model.parameters())
    for one in of:
        loss = model.losses(one.events_WT)[:, one.first :].mean()
        parts = torch.autograd.grad(loss, parameters)
        yield float(loss.detach()), torch.cat([part.flatten() for part in parts])


def projected(model: MusicTransformer, of: Sequence[Passage]) -> tuple[np.ndarray, np.ndarray]:
    """Losses, float64 `[n]`, and gradients after a sparse projection that is the same for all, float32 `[n, D]`."""
    projection = SparseProjection(sum(p.numel() for p in model.parameters()), DIMS, _NONZEROS, _SEED)
    losses, rows = [], []
    for loss, gradient_S in gradients(model, of):
        out = torch.zeros(DIMS, dtype=torch.float64)
        projection.add(out, 0, gradient_S)
        losses.append(loss)
        rows.append(out.float().numpy())
    return np.array(losses), np.stack(rows)
