"""The Music Transformer of dattri's published benchmark, written anew, with the names that its files give to weights.

Unlike `MusicTransformer` it normalises after each sublayer, adds sinusoids to embeddings, shares the embeddings of
distances between heads, and predicts the event that follows each.

Shape legend: B = windows, T = events of a window, H = heads, D = width, d = D / H, V = events there are.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lumina_ray.errors import StoreError
from lumina_ray.symbolic.events import N_EVENTS
from lumina_ray.symbolic.transformer import attended, skewed

N_TOKENS = N_EVENTS + 2
"""V: events, an end and a filling."""
MAX_FILE_BYTES = 1 << 30
"""The largest file of weights or numbers that is read."""
MAX_PARAMETERS = 200_000_000
AGAIN = "get the benchmark again with `dattri.benchmark.load.load_benchmark`"
_OF_MODEL = {"embedding": "embedding", "norm": "transformer.encoder.norm", "out": "Wout"}
_OF_LAYER = {
    "attention_in": "self_attn.in_proj",
    "attention_out": "self_attn.out_proj",
    "after_attention": "norm1",
    "feed_in": "linear1",
    "feed_out": "linear2",
    "after_feed": "norm2",
}
_LAYERS = "transformer.encoder.layers"


class DattriTransformer(nn.Module):
    """Predicts the event that follows each, from it and those before it.

    Args:
        n_layers, dim, heads: size; `heads` divides `dim`.
        feed: width between the two linear maps of a layer.
        window: the most events of a window.
    """

    positions_T1D: Tensor

    def __init__(self, *, n_layers: int, dim: int, heads: int, feed: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.embedding = nn.Embedding(N_TOKENS, dim)
        self.register_buffer("positions_T1D", torch.zeros(window, 1, dim))
        self.layers = nn.ModuleList(_Layer(dim, heads, feed, window) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, N_TOKENS)

    def forward(self, events_BT: Tensor) -> Tensor:
        """Logits of what follows each event, float32 `[B, T, V]`; T is at most `window`."""
        hidden_BTD = self.embedding(events_BT) + self.positions_T1D[: events_BT.shape[1], 0]
        for layer in self.layers:
            hidden_BTD = layer(hidden_BTD)
        return self.out(self.norm(hidden_BTD))

    def losses(self, events_BT: Tensor) -> Tensor:
        """Losses of every event but the first, in nats: float32 `[B, T − 1]`; T is at most `window` + 1."""
        return functional.cross_entropy(self(events_BT[:, :-1]).transpose(1, 2), events_BT[:, 1:], reduction="none")


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, feed: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_in, self.attention_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed_in, self.feed_out = nn.Linear(dim, feed), nn.Linear(feed, dim)
        self.after_attention, self.after_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        # By distance: the last row is for the event itself, the one before it for its predecessor.
        self.distances_Td = nn.Parameter(torch.rand(window, dim // heads))

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        hidden_BTD = self.after_attention(hidden_BTD + self.attention_out(self._attend(hidden_BTD)))
        return self.after_feed(hidden_BTD + self.feed_out(self.feed_in(hidden_BTD).relu()))

    def _attend(self, hidden_BTD: Tensor) -> Tensor:
        B, T, D = hidden_BTD.shape
        split = self.attention_in(hidden_BTD).reshape(B, T, 3, self.heads, D // self.heads)
        query_BHTd, key_BHTd, value_BHTd = split.permute(2, 0, 3, 1, 4)
        return attended(query_BHTd, key_BHTd, value_BHTd, skewed(query_BHTd @ self.distances_Td[-T:].T))


def published_name(name: str) -> str:
    """Name that dattri's files give to a weight of a `DattriTransformer`."""
    if name == "positions_T1D":
        return "positional_encoding.pe"
    found = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    if found is None:
        module, _, part = name.partition(".")
        return f"{_OF_MODEL[module]}.{part}"
    number, rest = found.groups()
    if rest == "distances_Td":
        return f"{_LAYERS}.{number}.self_attn.Er"
    module, _, part = rest.partition(".")
    # The first projection alone is no module there.
    return f"{_LAYERS}.{number}.{_OF_LAYER[module]}{'_' if module == 'attention_in' else '.'}{part}"


def read_model(path: Path) -> DattriTransformer:
    """Read weights that dattri's training wrote; the model's size is that of the weights.

    Raises:
        StoreError: the file is missing, too large or damaged, or holds other weights than this model's.
    """
    weights = read_torch(path)
    if not isinstance(weights, dict) or not all(isinstance(of, Tensor) for of in weights.values()):
        raise StoreError(f"{path}: holds no weights by name; {AGAIN}")
    # Without memory, so that no size can be too much before it is looked at.
    with torch.device("meta"):
        model = DattriTransformer(**_sizes(path, weights))
    expected = {published_name(name): (name, like) for name, like in model.state_dict().items()}
    _check_names(path, list(expected), list(weights))
    for theirs, (_, like) in expected.items():
        if weights[theirs].shape != like.shape:
            shapes = f"{tuple(weights[theirs].shape)} where {tuple(like.shape)} fits the others"
            raise StoreError(f"{path}: {theirs} has the shape {shapes}; {AGAIN}")
        if not weights[theirs].isfinite().all():
            raise StoreError(f"{path}: {theirs} is not finite; {AGAIN}")
    ours = {name: weights[theirs].float() for theirs, (name, _) in expected.items()}
    model.load_state_dict(ours, assign=True)
    return model.eval()


def read_torch(path: Path) -> Any:
    """Read what `torch.save` wrote, onto the CPU, as long as it is tensors and plain containers.

    Raises:
        StoreError: the file is missing, too large or damaged, or holds other things.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such file; {AGAIN}")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise StoreError(f"{path}: has {size} bytes, and {MAX_FILE_BYTES} can be read; {AGAIN}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # zipfile, pickle and torch raise anything on damaged files.
        reason = str(error).partition("\n")[0]
        raise StoreError(f"{path}: cannot be read as tensors ({type(error).__name__}: {reason}); {AGAIN}") from error


def _sizes(path: Path, weights: dict[str, Tensor]) -> dict[str, int]:
    """Arguments of the model that has these weights."""
    needed = {"embedding.weight", f"{_LAYERS}.0.self_attn.Er", f"{_LAYERS}.0.linear1.weight"}
    if lost := sorted(needed - weights.keys()):
        raise StoreError(f"{path}: is no Music Transformer of the benchmark: it lacks {', '.join(lost)}; {AGAIN}")
    shapes = [tuple(weights[name].shape) for name in sorted(needed)]
    if any(len(shape) != 2 or min(shape) < 1 for shape in shapes):
        raise StoreError(f"{path}: {', '.join(sorted(needed))} must be matrices, and have the shapes {shapes}; {AGAIN}")
    (_, dim), (feed, _), (window, d) = shapes
    if dim % d:
        raise StoreError(f"{path}: heads of width {d} do not fit into {dim}; {AGAIN}")
    if sum(of.numel() for of in weights.values()) > MAX_PARAMETERS:
        raise StoreError(f"{path}: has more than {MAX_PARAMETERS} numbers, which is no model of the benchmark; {AGAIN}")
    layers = {name.split(".")[3] for name in weights if name.startswith(_LAYERS + ".")}
    return {"n_layers": len(layers), "dim": dim, "heads": dim // d, "feed": feed, "window": window}


def _check_names(path: Path, expected: list[str], found: list[str]) -> None:
    for what, names in (
        ("lacks", sorted(set(expected) - set(found))),
        ("has unknown weights", sorted(set(found) - set(expected))),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise StoreError(f"{path}: {what} {', '.join(names[:5])}{more}, and is no model of the benchmark; {AGAIN}")
