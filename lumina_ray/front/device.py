"""Devices by their names: of this process, and of jobs, whose GPUs Ray hands out."""

import re

from lumina_ray.errors import UsageError

JOB_DEVICES = ("auto", "cpu", "cuda")
"""Devices of jobs and of the endpoint. Which GPU a worker gets is up to Ray."""


def check_job_device(name: str) -> None:
    """Check a device that a job or an endpoint is to run on.

    Raises:
        UsageError: it is none of `JOB_DEVICES`.
    """
    if name not in JOB_DEVICES:
        raise UsageError(f"the device of a job must be auto, cpu or cuda (Ray hands out the GPUs), got {name!r}")


def find_device(name: str) -> str:
    """Turn "auto" into this machine's device, and check any other name.

    Args:
        name: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        A name that torch understands; for "auto" the GPU where there is one, else the CPU.

    Raises:
        UsageError: no such device, or a GPU that this machine lacks.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"there is no device {name!r}; it must be one of auto, cpu, cuda, cuda:N")
    number = int(name.partition(":")[2] or 0)
    if name != "cpu" and number >= (found := torch.cuda.device_count()):
        raise UsageError(f"this machine has {found} GPUs, none of which is {name}; use auto or cpu")
    return name
