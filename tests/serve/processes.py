"""The processes of the running endpoint."""

import os
import signal
from pathlib import Path

import ray

KINDS = {
    "gateway": "lumina#Gateway#",
    "fingerprinter": "lumina#Fingerprinter#",
    "searcher": "lumina#Searcher#",
    "jobs": "lumina#Jobs#",
    "proxy": "SERVE_PROXY_ACTOR",
}


def pids(kind: str) -> set[int]:
    """Of the replicas of a kind, or of Serve's proxy."""
    actors = [a for a in ray.util.list_named_actors(all_namespaces=True) if KINDS[kind] in a["name"]]
    return set(ray.get([ray.get_actor(**actor).__ray_call__.remote(lambda _: os.getpid()) for actor in actors]))


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
