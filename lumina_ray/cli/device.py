"""Where a command computes."""

from lumina_ray.cli.output import announce
from lumina_ray.front.device import find_device


def resolve_device(name: str) -> str:
    """Turn "auto" into this machine's device, and say so when that is only a CPU.

    Raises:
        UsageError: no such device.
    """
    device = find_device(name)
    if name == "auto" and device == "cpu":
        announce("No GPU here: running on the CPU.")
    return device
