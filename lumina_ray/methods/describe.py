"""The methods as a table: what each needs, keeps and costs."""

from lumina_ray.fingerprint import CHANNELS
from lumina_ray.fingerprint.specification import fingerprint_dims
from lumina_ray.methods.method import METHODS, Method

# MusicGen large: layers, codebooks, codes of each.
_SHAPE = (48, 4, 2048)


def describe_methods() -> list[dict[str, str]]:
    """A row for every method, all text: name, paper, fingerprint and what else it needs, numbers (P / M), cost."""
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
    match method.kind:
        case None:
            return "nothing"
        case "tokens":
            return "tokens"
        case kind:
            needs = kind + (" of a checkpoint" if method.checkpoints == "last" else " of checkpoints")
    if method.checkpoints == "learning_rate":
        needs += ", learning rates"
    if method.residual:
        needs += ", probabilities if known"
    return needs


def _numbers(method: Method) -> str:
    if method.kind is None:
        return "0"
    numbers = [str(fingerprint_dims(method.kind, channel, *_SHAPE)) for channel in CHANNELS]
    return numbers[0] if len(set(numbers)) == 1 else " / ".join(numbers)


def _cost(method: Method) -> str:
    match method.kind:
        case None | "tokens":
            passes = "no model"
        case "influence" | "head-gradient":
            passes = "forward"
        case _:
            passes = "backward"
    if method.kernel is not None:
        return passes + (", N²D once" if method.kernel.top_k is None else ", k²D a query")
    if method.damping is not None:
        return passes + ", ND² once" if method.kind == "gradient" else passes + ", ND² / blocks once"
    return passes
