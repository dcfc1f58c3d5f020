"""The second moment of a catalog's gradients, added up on Ray over the data files of its store."""

import numpy as np
import ray

from cluster.resources import TASK_CPUS
from lumina_ray.errors import UsageError
from lumina_ray.fingerprint import Specification
from lumina_ray.methods import second_moment
from lumina_ray.storage import Location
from lumina_ray.store import list_data_files, norm_column, read_data_files, read_run
from lumina_ray.vocabulary import Channel

# Sums in flight, each up to 134 MB. The number is fixed, so that the last bits depend on the store's files alone (their
# names, and the songs in each), and not on the cluster that adds them up.
_SUMS = 8


def store_second_moment(store: Location, channel: Channel) -> np.ndarray:
    """The second moment over the songs of a store that are `ok`, for `lumina_ray.methods.precondition`.

    Needs a connection to Ray.

    Returns:
        Float64 `[B, d, d]`, for B blocks of d dimensions.

    Raises:
        StoreError: no store.
        UsageError: the store lacks the channel, or has no data.
    """
    specification = read_run(store).specification
    files = list_data_files(store)
    if channel not in specification.channels or not files:
        raise UsageError(f"{store} has no data of channel {channel}")
    groups = [files[i::_SUMS] for i in range(min(_SUMS, len(files)))]
    sums = [_sum.remote(group, specification.to_dict(), channel) for group in groups]
    total = ray.get(sums[0]).copy()
    for other in sums[1:]:
        total += ray.get(other)
    return total


@ray.remote(num_cpus=TASK_CPUS)
def _sum(files: list[Location], values: dict, channel: Channel) -> np.ndarray:
    specification = Specification.from_dict(values)
    blocks, columns = specification.blocks(channel), ["status", channel, norm_column(channel)]
    d = specification.dims[channel] // blocks
    total = np.zeros((blocks, d, d))
    for file in files:
        rows = read_data_files([file], specification, columns)
        ok = rows.filter(np.asarray(rows["status"]) == "ok").combine_chunks()
        vectors_ND = ok[channel].combine_chunks().flatten().to_numpy().reshape(len(ok), -1)
        total += second_moment(vectors_ND * ok[norm_column(channel)].to_numpy()[:, None], blocks)
    return total
