"""A cluster of three nodes on this machine, in a process of its own until its standard input ends.

    python -m tests.cluster.nodes

A minute after a cluster is gone, Ray ends every process that ever looked into it, whatever else that works on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ray.cluster_utils import Cluster

from tests.cluster.processes import free_port

NODE = {"num_cpus": 2, "object_store_memory": 80 << 20}
# As a local Ray of ours has it: idle processes stay, as starting one takes these tests longer than what it does.
SYSTEM = {"idle_worker_killing_time_threshold_ms": 600_000}


@dataclass(frozen=True)
class Nodes:
    """What a driver needs to know of the cluster.

    Attributes:
        address: for `RAY_ADDRESS`.
        dashboard: host and port, for `ray job submit`.
    """

    address: str
    dashboard: str

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"RAY_ADDRESS": self.address}


@contextmanager
def three_nodes() -> Iterator[Nodes]:
    """A head where nothing runs but drivers, and which believes in a GPU, and two nodes."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        said = iter(process.stdout)
        yield Nodes(**json.loads(next(line for line in said if line.startswith("{"))))
        process.stdin.close()


def main() -> None:
    ports = {"dashboard_port": free_port(), "dashboard_agent_listen_port": free_port()}
    head = NODE | ports | {"num_cpus": 0, "num_gpus": 1, "include_dashboard": True, "_system_config": SYSTEM}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(**NODE)
    print(json.dumps({"address": cluster.address, "dashboard": cluster.webui_url}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
