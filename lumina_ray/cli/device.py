"""Where a command computes."""

from lumina_ray.cli.output import announce


def resolve_device(name: str) -> str:
    """Turn "auto" into this machine's device, and say so when that is only a CPU."""
    import torch

    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    announce("No GPU here: running on the CPU.")
    return "cpu"
