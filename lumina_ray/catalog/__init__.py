"""Manifests of music: reading and writing them, scanning folders for them, and decoding the files that they list."""

from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.manifest import METADATA_COLUMNS, read_manifest, write_manifest
from lumina_ray.catalog.scan import scan_folder

__all__ = ["METADATA_COLUMNS", "decode_rows", "read_manifest", "scan_folder", "write_manifest"]
