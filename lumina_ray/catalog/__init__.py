"""Manifests of music: reading and writing them, and three ways to come by a catalog."""

from lumina_ray.catalog.demo import DemoCatalog, build_demo_catalog
from lumina_ray.catalog.games import GameCatalog, fetch_game_soundtracks
from lumina_ray.catalog.manifest import METADATA_COLUMNS, read_manifest, write_manifest
from lumina_ray.catalog.scan import scan_folder

__all__ = [
    "METADATA_COLUMNS",
    "DemoCatalog",
    "GameCatalog",
    "build_demo_catalog",
    "fetch_game_soundtracks",
    "read_manifest",
    "scan_folder",
    "write_manifest",
]
