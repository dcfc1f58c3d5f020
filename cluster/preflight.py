"""Checks before a job starts, so that a job that cannot end does not begin.

Ray itself waits for missing resources, up to half an hour and without a word.
"""

import logging
import os
import shutil
from pathlib import Path

import pyarrow as pa
import ray

from cluster.resources import Workers, songs_in_block
from cluster.session import one_line, root_cause
from lumina_ray.catalog.durations import song_durations
from lumina_ray.errors import ClusterError, LuminaError, SpecificationMismatch, UsageError
from lumina_ray.fingerprint import Specification
from lumina_ray.storage import Location
from lumina_ray.store import StoreCounter
from lumina_ray.store.forecast import chunk_songs, code_bytes, store_bytes
from lumina_ray.store.run import read_run
from lumina_ray.vocabulary import Channel, Dtype, Kind

# A job holds a store's codes so many times while it puts the rows in order.
_COPIES_OF_CODES = 3


def check_memory(source: Location) -> None:
    """Check that this machine has the memory to use the codes of a store again.

    Raises:
        UsageError: it has less; says how much is needed.
    """
    n_rows = len(read_run(source).specification.codebook_weights)
    codes = code_bytes(StoreCounter(source).count().audio_s, n_rows)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _COPIES_OF_CODES * codes > memory:
        raise UsageError(
            f"{source}: its codes are {codes / 2**30:.1f} GiB, and a job holds them {_COPIES_OF_CODES} times, in the "
            f"{memory / 2**30:.1f} GiB of this machine; give its manifest.parquet, and its audio is decoded and "
            "encoded again, or start the job on a machine with more memory"
        )


def check_codes(source: Location, specification: Specification) -> None:
    """Check that the codes of a store were made by the same model. A manifest passes: it has none.

    Raises:
        SpecificationMismatch: the store's model had other weights; their hash alone tells codecs apart.
    """
    if source.is_dir() and (made_with := read_run(source).specification.weights_sha256) != specification.weights_sha256:
        raise SpecificationMismatch(
            f"{source} holds codes of a model with weights {made_with[:12]}, this one has "
            f"{specification.weights_sha256[:12]}; give the manifest instead of the store"
        )


def bytes_to_write(songs: pa.Table, stored: int, specification: Specification, workers: Workers) -> int:
    """Predict the bytes that a job will write for the songs of its manifest, `stored` of which are stored already."""
    durations_s, _ = song_durations(songs)
    whole = store_bytes(chunk_songs(durations_s).kept_s, specification, songs_in_block(len(songs), workers))
    return int(whole * (1 - stored / len(songs)))


def check_disk(store: Path, needed_bytes: int) -> None:
    """Check that the store's file system has enough free space.

    Raises:
        ClusterError: it has less; says how much there is.
    """
    folder = next(path for path in (store, *store.parents) if path.exists())
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ClusterError(
            f"{store}: about {size_text(needed_bytes)} will be written, {folder} has {size_text(free_bytes)} free: "
            "make room, or choose another --out"
        )


def size_text(n_bytes: float) -> str:
    """A size for people, in powers of ten."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def describe_model(
    model: str, workers: Workers, kind: Kind, channels: tuple[Channel, ...], dtype: Dtype
) -> tuple[Specification, dict[str, str]]:
    """Open the model where the workers will run, before any of them does.

    The driver may have neither the weights nor a GPU, and a job that cannot work should fail before it starts. Where
    other jobs hold the GPUs, this waits for one of them, and a warning says so.

    Returns:
        The specification of its fingerprints, and the environment that their last bits depend on.

    Raises:
        ModelError: the model is not at hand on that node, or unsuitable.
        ClusterError: a GPU that torch cannot use, or a node that cannot run this software.
    """
    here = {ray.get_runtime_context().get_node_id()}
    if workers.device == "cpu" and {node["NodeID"] for node in ray.nodes() if node["Alive"]} == here:
        # Another process on this machine would only import everything once more.
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
    # Imported here: not every driver needs it.
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
