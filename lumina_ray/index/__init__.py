"""Immutable FAISS snapshots of a calibrated store."""

from lumina_ray.index.build import build_index
from lumina_ray.index.channel import Found, Wish
from lumina_ray.index.snapshot import Shard, Snapshot, load_snapshot, newest_snapshot

__all__ = ["Found", "Shard", "Snapshot", "Wish", "build_index", "load_snapshot", "newest_snapshot"]
