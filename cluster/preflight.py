"""Before a job starts: what it will run on, and whether the cluster has that.

Ray itself waits for missing resources, up to half an hour and without a word.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import ray

from cluster.session import one_line, root_cause
from lumina_ray.errors import ClusterError, LuminaError, UsageError
from lumina_ray.fingerprint import Channel, Dtype, Kind, Specification

# What stays unreserved. Ray Data reserves a whole CPU for its own steps, such as skipping the songs that are stored
# when a job is resumed: with less, a job on two CPUs would wait for ever.
_FREE_CPUS = 1.25
_LISTED_NODES = 8
# For each task that reads, decodes or writes.
TASK_CPUS = 0.25


@dataclass(frozen=True)
class Workers:
    """The workers of a job.

    Attributes:
        device: "cpu" or "cuda".
        count: workers, each of which owns a model.
        cpus, gpus: what Ray reserves for each. A reservation is bookkeeping: a CPU worker computes with one thread
            whatever fraction of a CPU is reserved for it.
        decoders: tasks that decode audio at once.
    """

    device: str
    count: int
    cpus: float
    gpus: int
    decoders: int


def plan_workers(device: str, count: int | None, decoders: int | None = None) -> Workers:
    """Choose workers for the connected cluster, or refuse at once.

    Args:
        device: "auto" (GPUs where there are any), "cpu" or "cuda".
        count: workers; by default one for each GPU, or for each CPU.
        decoders: by default four for each GPU, as far as there are CPUs, or one for two workers on CPUs.

    Raises:
        UsageError: no such device.
        ClusterError: too few GPUs or CPUs; says how many are wanted and present.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise UsageError(f"the device of a job must be auto, cpu or cuda (Ray hands out the GPUs), got {device!r}")
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


def check_disk(store: Path, needed_bytes: int) -> None:
    """Raises:
    ClusterError: the store's file system has less than that free; says how much.
    """
    folder = next(path for path in (store, *store.parents) if path.exists())
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ClusterError(
            f"{store}: about {size_text(needed_bytes)} will be written, {folder} has {size_text(free_bytes)} free: "
            "make room, or choose another --out"
        )


def size_text(n_bytes: float) -> str:
    """For people, in powers of ten."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _gpus_by_node() -> str:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    counts = [f"{node['NodeManagerAddress']}: {node['Resources'].get('GPU', 0):g}" for node in nodes[:_LISTED_NODES]]
    return ", ".join(counts) + (f", {len(nodes) - _LISTED_NODES} nodes more" if len(nodes) > _LISTED_NODES else "")


def describe_model(
    model: str, workers: Workers, kind: Kind, channels: tuple[Channel, ...], dtype: Dtype
) -> tuple[Specification, dict[str, str]]:
    """Open the model where the workers will run, before any of them does.

    The driver may have neither the weights nor a GPU, and a job that cannot work should fail before it starts. Where
    others hold the GPUs this waits for one of them, and a warning says so.

    Returns:
        The specification of its fingerprints, and what else their last bits depend on.

    Raises:
        ModelError: not at hand on that node, or unsuitable.
        ClusterError: a GPU that torch cannot use, or a node that cannot run this software.
    """
    here = {ray.get_runtime_context().get_node_id()}
    if workers.device == "cpu" and {node["NodeID"] for node in ray.nodes() if node["Alive"]} == here:
        # Another process on this very machine would only import everything once more.
        specification, environment = _describe_here(model, "cpu", kind, channels, dtype)
        return Specification.from_dict(specification), environment
    if workers.gpus and (free := int(ray.available_resources().get("GPU", 0))) < workers.count:
        logging.getLogger(__name__).warning(
            "%d of the %d GPUs that are wanted are free now, others hold the rest: the job begins as soon as there is "
            "one, and takes more as they become free",
            free,
            workers.count,
        )
    try:
        specification, environment = ray.get(
            _describe.options(num_cpus=workers.cpus, num_gpus=workers.gpus).remote(
                model, workers.device, kind, channels, dtype
            )
        )
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        if isinstance(cause, LuminaError):
            raise cause from None
        raise ClusterError(f"model {model!r} cannot be opened on the cluster: {one_line(error)}") from error
    return Specification.from_dict(specification), environment


def _describe_here(
    model_name: str, device: str, kind: Kind, channels: tuple[Channel, ...], dtype: Dtype
) -> tuple[dict, dict[str, str]]:
    # The driver may have no use for it.
    import torch

    from lumina_ray.fingerprint import choose_chunks_in_flight, describe_environment
    from lumina_ray.model import open_model

    if device == "cuda" and not torch.cuda.is_available():
        node = ray.util.get_node_ip_address()
        raise ClusterError(
            f"node {node} offers a GPU to Ray, but torch {torch.__version__} cannot use it: check its driver "
            "(`nvidia-smi`), or pass --device cpu"
        )
    model = open_model(model_name, device, getattr(torch, dtype))
    specification = Specification.for_model(model, kind, channels, dtype)
    return specification.to_dict(), describe_environment(model, choose_chunks_in_flight(model, specification))


_describe = ray.remote(max_retries=0)(_describe_here)
