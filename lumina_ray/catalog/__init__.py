"""Manifests of music: reading and writing them, three ways to come by a catalog, and decoding what they list."""

from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.demo import DemoCatalog, build_demo_catalog
from lumina_ray.catalog.games import GameCatalog, fetch_game_soundtracks
from lumina_ray.catalog.manifest import METADATA_COLUMNS, read_manifest, write_manifest
from lumina_ray.catalog.scan import scan_folder

__all__ = [
    "METADATA_COLUMNS",
    "DemoCatalog",
    "GameCatalog",
    "build_demo_catalog",
    "decode_rows",
    "fetch_game_soundtracks",
    "read_manifest",
    "scan_folder",
    "write_manifest",
]
