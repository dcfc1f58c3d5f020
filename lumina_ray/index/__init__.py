"""Immutable FAISS snapshots of a calibrated store."""

from lumina_ray.callable_package import make_callable
from lumina_ray.index.build import build_index
from lumina_ray.index.channel import Found, IndexConfig
from lumina_ray.index.record import ChannelRecord, SnapshotRecord
from lumina_ray.index.snapshot import Shard, Snapshot, load_snapshot, newest_snapshot

__all__ = [
    "ChannelRecord",
    "Found",
    "IndexConfig",
    "Shard",
    "Snapshot",
    "SnapshotRecord",
    "build_index",
    "load_snapshot",
    "newest_snapshot",
]

# `lumina_ray.index(…)` builds one and opens it.
make_callable(__name__, "lumina_ray.front.index:index")
