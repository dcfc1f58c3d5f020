"""The demo: music from packages (scores that are rendered here, game soundtracks), and the whole system run on it."""

from lumina_ray.demo.catalog import DemoCatalog, build_demo_catalog
from lumina_ray.demo.games import GameCatalog, fetch_game_soundtracks

__all__ = ["DemoCatalog", "GameCatalog", "build_demo_catalog", "fetch_game_soundtracks"]
