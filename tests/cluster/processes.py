"""Processes of a Ray cluster on this machine, and ports for them."""

import socket
import time
from pathlib import Path


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes(*words: str) -> dict[int, int]:
    """Running processes whose command line has all the words: their ids, and those of their parents."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text().replace("\0", " ")
            if all(word in command for word in words):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # It has just ended.
    return found


def actors(address: str) -> dict[int, int]:
    """The running workers of jobs on the cluster with this address, and the node process that each belongs to."""
    nodes = processes("raylet", f"--gcs-address={address} ")
    assert nodes, f"no cluster at {address}"
    return {worker: node for worker, node in processes("ray::MapWorker").items() if node in nodes}


def wait_until_gone(address: str, before: dict[int, int], limit_s: float = 60) -> None:
    """Wait for the workers of jobs on a cluster to end, but for those that there were before."""
    end_s = time.monotonic() + limit_s
    while left := actors(address).keys() - before.keys():
        assert time.monotonic() < end_s, f"still running: {left}"
        time.sleep(0.1)
