"""The workers of a job, chosen from what the cluster has, and the size of its blocks."""

from dataclasses import dataclass

import ray

from lumina_ray.errors import ClusterError
from lumina_ray.front.device import check_job_device

# CPUs that stay unreserved. Ray Data reserves a whole one for its own steps, such as skipping the songs that are stored
# when a job is resumed: with less, a job on two CPUs would wait for ever.
_FREE_CPUS = 1.25
_LISTED_NODES = 8
TASK_CPUS = 0.25
"""CPUs that each task that reads, decodes or writes reserves."""
# A block is committed at once, and lost at an interruption: minutes of work, whatever the device.
_MAX_SONGS_PER_BLOCK = {"cpu": 4, "cuda": 16}
_BLOCKS_PER_WORKER = 8


@dataclass(frozen=True)
class Workers:
    """The workers of a job.

    Attributes:
        device: "cpu" or "cuda".
        count: workers, each of which owns a model.
        cpus, gpus: resources that Ray reserves for each worker. A reservation is bookkeeping: a CPU worker computes
            with one thread whatever fraction of a CPU is reserved for it.
        decoders: tasks that decode audio at once.
    """

    device: str
    count: int
    cpus: float
    gpus: int
    decoders: int

    @property
    def sentence(self) -> str:
        """For people."""
        if self.device == "cuda":
            return f"Running on {self.count} GPU{'s' if self.count > 1 else ''}."
        noun = "worker" if self.count == 1 else "workers"
        return f"Running on the CPU, not on a GPU: {self.count} {noun} of one thread each."


def choose_workers(device: str, count: int | None, decoders: int | None = None) -> Workers:
    """Choose workers for the connected cluster, or refuse at once.

    Args:
        device: "auto" (GPUs where there are any), "cpu" or "cuda".
        count: workers; by default one for each GPU, or for each CPU.
        decoders: by default four for each GPU, as far as there are CPUs, or one for two workers on CPUs.

    Raises:
        UsageError: no such device.
        ClusterError: too few GPUs or CPUs; says how many are wanted and present.
    """
    check_job_device(device)
    present = ray.cluster_resources()
    cpus, gpus = present.get("CPU", 0.0), int(present.get("GPU", 0))
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if cpus < 2:
        raise ClusterError(f"the Ray cluster has {cpus:g} CPUs; a job needs 2, one of them for reading and writing")
    if device == "cuda":
        wanted = count or max(gpus, 1)
        if gpus < wanted:
            raise ClusterError(
                f"{wanted} GPUs wanted, the Ray cluster has {gpus} ({_gpus_by_node()}): start nodes with GPUs, or pass "
                + (f"--workers {gpus}" if gpus else "--device cpu")
            )
        return Workers("cuda", wanted, cpus=0, gpus=1, decoders=decoders or max(1, min(4 * wanted, int(cpus) - 1)))
    wanted = count or int(cpus)
    if cpus < wanted:
        raise ClusterError(f"{wanted} workers wanted, the Ray cluster has {cpus:g} CPUs: pass --workers {int(cpus)}")
    smallest = min(node["Resources"]["CPU"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))
    reserved = max(0.0, 1 - _FREE_CPUS / smallest)
    return Workers("cpu", wanted, cpus=round(reserved, 3), gpus=0, decoders=decoders or max(1, wanted // 2))


def songs_in_block(n_songs: int, workers: Workers) -> int:
    """Songs that are committed at once."""
    return max(1, min(n_songs // (_BLOCKS_PER_WORKER * workers.count), _MAX_SONGS_PER_BLOCK[workers.device]))


def _gpus_by_node() -> str:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    counts = [f"{node['NodeManagerAddress']}: {node['Resources'].get('GPU', 0):g}" for node in nodes[:_LISTED_NODES]]
    return ", ".join(counts) + (f", {len(nodes) - _LISTED_NODES} nodes more" if len(nodes) > _LISTED_NODES else "")
