"""Build an index whose pieces are built on Ray, all at once.

The process that starts the build trains the coarse quantiser and the codec, and merges the pieces. All nodes must see
the index folder under the same path.
"""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import ray

from cluster.session import one_line, ray_session, stoppable
from lumina_ray.errors import ClusterError, UsageError
from lumina_ray.index import IndexConfig, build_index
from lumina_ray.storage import Location, RemotePath, locate
from lumina_ray.store import stream_store

Item = TypeVar("Item")
Result = TypeVar("Result")

_RETRIES = 3


def build_index_on_ray(
    store: str | os.PathLike[str] | Location,
    out: str | os.PathLike[str] | Location,
    config: IndexConfig = IndexConfig(),
) -> Location:
    """Build the next snapshot of an index: the one that `build_index` builds in one process.

    Raises:
        UsageError: `out` lies in a bucket.
        ClusterError: there is no Ray to be had, or a piece could not be built on it.
        LuminaError: as `build_index`.
    """
    out = locate(out)
    if isinstance(out, RemotePath):
        raise UsageError(f"{out}: pieces built on Ray need a folder that all nodes see; leave out --parallel")
    with ray_session(), stoppable():
        return build_index(stream_store(locate(store)), out.resolve(), config, each_on_ray)


def each_on_ray(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to each item, a task for each; a task whose node is lost is run again."""
    remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
    try:
        return ray.get([remote.remote(item) for item in items])
    except ray.exceptions.RayError as error:
        raise ClusterError(f"the index could not be built on the cluster: {one_line(error)}") from error
