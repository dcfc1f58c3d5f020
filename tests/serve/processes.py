"""The processes of the running endpoint, and how another application comes to run beside it."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

KINDS = {
    "gateway": "lumina#Gateway#",
    "fingerprinter": "lumina#Fingerprinter#",
    "searcher": "lumina#Searcher#",
    "jobs": "lumina#Jobs#",
    "proxy": "SERVE_PROXY_ACTOR",
}


def deploy_config(application: dict[str, Any]) -> None:
    """As `serve deploy` does with a config of one application: returns at once."""
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))


def wait_until_running(name: str, limit_s: float = 240) -> None:
    """Wait for an application's replicas; Ray's own wait gives up after a minute."""
    end_s = time.monotonic() + limit_s
    while (facts := serve.status().applications[name]).status != ApplicationStatus.RUNNING:
        assert facts.status != ApplicationStatus.DEPLOY_FAILED, facts.message
        assert time.monotonic() < end_s, facts
        time.sleep(0.2)


def pids(kind: str) -> set[int]:
    """Of the replicas of a kind, or of Serve's proxy."""
    actors = [a for a in ray.util.list_named_actors(all_namespaces=True) if KINDS[kind] in a["name"]]
    return set(ray.get([ray.get_actor(**actor).__ray_call__.remote(lambda _: os.getpid()) for actor in actors]))


def decoders() -> set[int]:
    """The processes in which the gateways decode uploads."""
    found = {int(pid) for gateway in pids("gateway") for pid in _children(gateway)}
    return {pid for pid in found if b"lumina_ray.audio.guard" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def _children(pid: int) -> list[str]:
    return [
        child for thread in Path(f"/proc/{pid}/task").iterdir() for child in (thread / "children").read_text().split()
    ]


def kill(kind: str) -> None:
    """As a machine does that has no memory left."""
    for pid in pids(kind):
        os.kill(pid, signal.SIGKILL)


def resident_bytes(kind: str) -> int:
    """Memory of the processes of a kind, without those that they started."""
    return sum(memory_bytes(pid, "VmRSS") for pid in pids(kind))


def memory_bytes(pid: int, what: str) -> int:
    """What the kernel says of a process: VmRSS for its memory now, VmHWM for the most that it ever had."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{what}:")[2].split()[0]) << 10
