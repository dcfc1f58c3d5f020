"""Fingerprints on disk: Parquet, one row a song, with the run that made them."""

from lumina_ray.store.generations import open_store
from lumina_ray.store.hdf5 import export_hdf5
from lumina_ray.store.lock import exclusive
from lumina_ray.store.parts import StoreCounter, drop_damaged, failed_rows, finish_commits
from lumina_ray.store.read import Store, check_complete, part_files, read_parts, read_rows, read_store
from lumina_ray.store.run import (
    Run,
    begin_run,
    check_not_condemned,
    condemn,
    manifest_sha256,
    read_run,
    write_json,
)
from lumina_ray.store.schema import norm_column, store_schema
from lumina_ray.store.status import StoreStatus, store_status
from lumina_ray.store.stream import StreamedStore, stream_store
from lumina_ray.store.worker import FingerprintWorker, has_codes

__all__ = [
    "FingerprintWorker",
    "Run",
    "Store",
    "StoreCounter",
    "StoreStatus",
    "StreamedStore",
    "begin_run",
    "check_complete",
    "check_not_condemned",
    "condemn",
    "drop_damaged",
    "exclusive",
    "export_hdf5",
    "failed_rows",
    "finish_commits",
    "has_codes",
    "manifest_sha256",
    "norm_column",
    "open_store",
    "part_files",
    "read_parts",
    "read_rows",
    "read_run",
    "read_store",
    "store_schema",
    "store_status",
    "stream_store",
    "write_json",
]
