"""A table of the methods: what each method needs, how many numbers it keeps, and what it costs."""

from dataclasses import dataclass, field

from lumina_ray.fingerprint.kinds import KINDS
from lumina_ray.methods.method import METHODS, Method
from lumina_ray.vocabulary import CHANNELS, Representation


@dataclass(frozen=True)
class _MusicGenLarge:
    n_layers: int = 48
    representation: Representation = field(default_factory=lambda: Representation("codes", rows=4, size=2048))


def describe_methods() -> list[dict[str, str]]:
    """One row of texts for every method.

    Returns:
        Rows with the keys `method`, `paper`, `needs` (the fingerprint, and other inputs), `numbers` (how many per song,
        for P / M, under MusicGen-large) and `cost`.
    """
    return [
        {
            "method": method.name,
            "paper": method.paper,
            "needs": _needs(method),
            "numbers": _numbers(method),
            "cost": _cost(method),
        }
        for method in METHODS.values()
    ]


def _needs(method: Method) -> str:
    if method.needs_model:
        return "the model, Fisher information"
    if method.kind is None:
        return "nothing"
    if KINDS[method.kind].embedder:
        return f"{method.kind} (weights)"
    if not KINDS[method.kind].runs_language_model:
        return method.kind
    if KINDS[method.kind].uses_fisher:
        return method.kind + " of a checkpoint, Fisher information"
    if KINDS[method.kind].uses_companion:
        return method.kind + " of a checkpoint, an earlier one"
    needs = method.kind + (" of a checkpoint" if method.checkpoints == "last" else " of checkpoints")
    if method.checkpoints == "learning_rate":
        needs += ", learning rates"
    if method.residual:
        needs += ", probabilities if known"
    return needs


def _numbers(method: Method) -> str:
    if method.kind is None:
        return "0"
    numbers = [str(KINDS[method.kind].dims(channel, _MusicGenLarge())) for channel in CHANNELS]
    return numbers[0] if len(set(numbers)) == 1 else " / ".join(numbers)


def _cost(method: Method) -> str:
    if method.needs_model:
        return "forward over the catalog, a query"
    if method.kind is None:
        return "no model"
    kind = KINDS[method.kind]
    passes = {"codes": "no model", "codec": "the codec"}.get(kind.needs, kind.needs)
    if method.kernel is not None:
        return passes + (", N²D once" if method.kernel.top_k is None else ", k²D a query")
    if method.damping is not None:
        return passes + (", ND² / blocks once" if kind.by_tensor else ", ND² once")
    return passes
