"""A small Music Transformer: it predicts events, with attention that knows how far apart two events are.

Source: Huang et al. 2018 (arXiv:1809.04281): relative positions by "skewing", one embedding for each distance and head.

Shape legend: B = windows, T = events of a window, H = heads, D = width, d = D / H, V = events there are.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lumina_ray.symbolic.events import N_EVENTS


class MusicTransformer(nn.Module):
    """Predicts each event from those before it.

    Every window begins anew, after a mark that is no event.

    Args:
        n_layers, dim, heads: size; `heads` divides `dim`.
        window: the most events of a window.
        n_events: V.
        seed: of the random weights.
    """

    def __init__(
        self, *, n_layers: int, dim: int, heads: int, window: int, n_events: int = N_EVENTS, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_events, self.window = n_events, window
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(n_events + 1, dim)
            nn.init.normal_(self.embedding.weight, std=dim**-0.5)
            self.layers = nn.ModuleList(_Layer(dim, heads, window) for _ in range(n_layers))
            self.norm = nn.LayerNorm(dim)

    def forward(self, events_BT: Tensor) -> Tensor:
        """Logits of every event given those before it, float32 `[B, T, V]`; T is at most `window`."""
        previous_BT = functional.pad(events_BT[:, :-1], (1, 0), value=self.n_events)
        hidden_BTD = self.embedding(previous_BT)
        for layer in self.layers:
            hidden_BTD = layer(hidden_BTD)
        return self.norm(hidden_BTD) @ self.embedding.weight[: self.n_events].T

    def losses(self, events_BT: Tensor) -> Tensor:
        """Losses of every event, in nats: float32 `[B, T]`."""
        return functional.cross_entropy(self(events_BT).transpose(1, 2), events_BT, reduction="none")


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.projections, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        # By distance: the last row is for the event itself, the one before it for its predecessor.
        self.distances_HTd = nn.Parameter(torch.randn(heads, window, dim // heads) * (dim // heads) ** -0.5)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        hidden_BTD = hidden_BTD + self.out(self._attend(self.before_attention(hidden_BTD)))
        return hidden_BTD + self.feed(self.before_feed(hidden_BTD))

    def _attend(self, hidden_BTD: Tensor) -> Tensor:
        B, T, D = hidden_BTD.shape
        split = self.projections(hidden_BTD).reshape(B, T, 3, self.heads, D // self.heads)
        query_BHTd, key_BHTd, value_BHTd = split.permute(2, 0, 3, 1, 4)
        return attended(query_BHTd, key_BHTd, value_BHTd, self.relative(query_BHTd))

    def relative(self, query_BHTd: Tensor) -> Tensor:
        """Inner products of every query i with the embedding of its distance to j ≤ i: `[B, H, T, T]`.

        What stands above the diagonal means nothing.
        """
        return skewed(query_BHTd @ self.distances_HTd[:, -query_BHTd.shape[2] :].transpose(-1, -2))


def skewed(products_BHTT: Tensor) -> Tensor:
    """Move products of queries with embeddings of distances, largest first, to the places that they are for.

    Returns:
        `[B, H, T, T]`; what stands above the diagonal means nothing.
    """
    B, H, T, _ = products_BHTT.shape
    # One more column moves each row by its number once the numbers are cut into rows again.
    return functional.pad(products_BHTT, (1, 0)).reshape(B, H, T + 1, T)[:, :, 1:]


def attended(query_BHTd: Tensor, key_BHTd: Tensor, value_BHTd: Tensor, relative_BHTT: Tensor) -> Tensor:
    """Attention of every event to itself and those before it, by content and by distance: `[B, T, D]`.

    Args:
        relative_BHTT: what distances add to the products of queries and keys, before both are divided by √d.
    """
    B, H, T, d = query_BHTd.shape
    scores_BHTT = query_BHTd @ key_BHTd.transpose(-1, -2) + relative_BHTT
    later_TT = torch.ones(T, T, dtype=torch.bool, device=query_BHTd.device).triu(1)
    scores_BHTT = (scores_BHTT * d**-0.5).masked_fill(later_TT, -torch.inf)
    return (scores_BHTT.softmax(dim=-1) @ value_BHTd).transpose(1, 2).reshape(B, T, H * d)
