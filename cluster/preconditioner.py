"""The second moment of a catalog's gradients, added up on Ray over the parts of its store."""

import numpy as np
import ray

from cluster.preflight import TASK_CPUS
from lumina_ray.errors import UsageError
from lumina_ray.fingerprint import Channel, Specification
from lumina_ray.methods import second_moment
from lumina_ray.storage import Location
from lumina_ray.store import norm_column, part_files, read_parts, read_run

# Sums in flight, each up to 134 MB. A fixed number: the last bits depend on the store's files, on how its songs lie in
# them and how these are called, and not on the cluster that adds them up.
_SUMS = 8


def store_second_moment(store: Location, channel: Channel) -> np.ndarray:
    """Float64 `[B, d, d]` over the songs of a store that are `ok`: what `lumina_ray.methods.fold` wants.

    Needs a connection to Ray.

    Raises:
        StoreError: no store.
        UsageError: the store lacks the channel, or has no data.
    """
    specification = read_run(store).specification
    files = part_files(store)
    if channel not in specification.channels or not files:
        raise UsageError(f"{store} has no data of channel {channel}")
    shares = [files[i::_SUMS] for i in range(min(_SUMS, len(files)))]
    sums = [_sum.remote(share, specification.to_dict(), channel) for share in shares]
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
        rows = read_parts([file], specification, columns)
        ok = rows.filter(np.asarray(rows["status"]) == "ok").combine_chunks()
        vectors_ND = ok[channel].combine_chunks().flatten().to_numpy().reshape(len(ok), -1)
        total += second_moment(vectors_ND * ok[norm_column(channel)].to_numpy()[:, None], blocks)
    return total
