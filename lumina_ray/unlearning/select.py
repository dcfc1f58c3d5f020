"""Which weights of a model are changed: tensors by name, whatever library holds them, and choices of layers."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from lumina_ray.errors import UsageError
from lumina_ray.model.interface import AttributableModel
from lumina_ray.model.tracked import ROLES, TrackedTensor

Layers = Literal["cross_kv", "cross", "self", "mlp", "layers", "heads", "all"]
"""Choice of weights: keys and values of cross-attention, all of cross-attention, self-attention, the MLPs, these three
together, the output heads, or every parameter of the model."""
_ALL: tuple[TrackedTensor, ...] = tuple(dict.fromkeys(tensor for roles in ROLES.values() for tensor in roles))
_TENSORS: dict[Layers, tuple[TrackedTensor, ...]] = {
    "cross_kv": ("cross_in_proj", "cross_kv"),
    "cross": ("cross_in_proj", "cross_q", "cross_kv", "cross_out_proj"),
    "self": ("self_in_proj", "self_out_proj"),
    "mlp": ("linear1", "linear2"),
    "layers": _ALL,
    "heads": (),
    "all": _ALL,
}
LAYERS: tuple[Layers, ...] = tuple(_TENSORS)


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one parameter that are changed.

    Attributes:
        name: of the tensor that the parameter is a piece of.
        parameter: the parameter.
        rows: of the parameter.
        at: the same rows, counted from the beginning of the tensor.
    """

    name: str
    parameter: nn.Parameter
    rows: slice
    at: slice

    @property
    def values(self) -> Tensor:
        """The rows as they are now, detached; a view of the parameter."""
        return self.parameter.detach()[self.rows]

    @property
    def whole(self) -> bool:
        """Whether all rows of the parameter are changed."""
        return self.rows.stop - self.rows.start == len(self.parameter)


def named_tensors(model: AttributableModel) -> dict[str, tuple[nn.Parameter, ...]]:
    """Every tensor of a model by name: the parameters whose rows, one after another, are the tensor's.

    Names, order and shapes are one for all libraries: `layers.3.self_in_proj`, `heads.0`, `others.12`.
    """
    tensors: dict[str, tuple[nn.Parameter, ...]] = {
        f"layers.{layer}.{tensor}": model.tracked(layer, tensor)
        for layer in range(model.n_layers)
        for tensor in ROLES[model.representation.name]
    }
    tensors |= {f"heads.{k}": (head,) for k, head in enumerate(model.heads())}
    return tensors | {f"others.{i}": (parameter,) for i, parameter in enumerate(model.others())}


def select_parts(model: AttributableModel, layers: Layers) -> list[Part]:
    """The rows of parameters that a choice of layers stands for, in the order of `named_tensors`.

    Raises:
        UsageError: there is no such choice.
    """
    if layers not in _TENSORS:
        raise UsageError(f"there is no choice of layers {layers!r}; it must be one of {', '.join(LAYERS)}")
    chosen = {f"layers.{i}.{tensor}" for i in range(model.n_layers) for tensor in _TENSORS[layers]}
    parts = []
    for name, pieces in named_tensors(model).items():
        kind = name.partition(".")[0]
        if name in chosen or layers == "all" or (layers == "heads" and kind == "heads"):
            rows = sum(len(piece) for piece in pieces)
            # Query, key and value are stacked in this order, in one parameter or in three.
            stacked = layers == "cross_kv" and name.endswith(".cross_in_proj")
            parts += _parts(name, pieces, rows // 3 if stacked else 0)
    return parts


def _parts(name: str, pieces: tuple[nn.Parameter, ...], first: int) -> list[Part]:
    """Parts of a tensor's rows from `first` on."""
    parts, begin = [], 0
    for piece in pieces:
        end = begin + len(piece)
        if end > first:
            low = max(first, begin)
            parts.append(Part(name, piece, slice(low - begin, len(piece)), slice(low, end)))
        begin = end
    return parts
