"""The machine that a benchmark ran on, recorded with its results."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import lumina_ray


def describe_machine() -> dict[str, str | float]:
    """Versions, processors, memory, and the machine's load by other programs; call it before the benchmark."""
    models = {line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "lumina_ray": lumina_ray.__version__,
        **{name: version(name) for name in ("ray", "torch", "pyarrow")},
        "python": platform.python_version(),
        "processor": ", ".join(sorted(models)) or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
