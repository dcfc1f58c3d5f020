"""Measures how much a job holds in Ray's object store, and how much is spilled to disks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray._private.internal_api import node_stats

_POLL_S = 0.5


@dataclass
class ObjectStore:
    """Sums over all nodes.

    Attributes:
        peak_bytes: most bytes that the object stores held at once.
        spilled_bytes: bytes that were written to disks for lack of room, since the nodes started.
    """

    peak_bytes: int = 0
    spilled_bytes: int = 0


@contextmanager
def watched() -> Iterator[ObjectStore]:
    """Watch the object stores of the connected Ray while the block runs; the numbers grow during the block."""
    found = ObjectStore()
    stopped = threading.Event()

    def watch() -> None:
        while True:
            last = stopped.wait(_POLL_S)
            nodes = [node for node in ray.nodes() if node["Alive"]]
            stats = [
                node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False).store_stats
                for node in nodes
            ]
            found.peak_bytes = max(found.peak_bytes, sum(of_node.object_store_bytes_used for of_node in stats))
            found.spilled_bytes = sum(of_node.spilled_bytes_total for of_node in stats)
            if last:
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        thread.join()
