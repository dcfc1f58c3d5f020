"""Living catalogs for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lumina_ray.store import Store, segments
from lumina_ray.store.changes import add_segment, next_segment
from tests.calibration.synthetic import DIMS, World, specification, write_store


def add(catalog: Path, ids: list[str], seed: int, *, replacing: bool = False, weights: str = "a" * 64) -> Store:
    """A finished segment of songs with these ids, added."""
    worlds = {c: World(np.random.default_rng(seed + i), d) for i, (c, d) in enumerate(DIMS.items())}
    segment = next_segment(catalog)
    codes = [f"{seed}-{song}" for song in ids]
    vectors = {c: w.music(len(ids)) for c, w in worlds.items()}
    store = write_store(segment, vectors, ids=ids, spec=specification(weights), codes_sha256=codes)
    pq.write_table(store.songs.select(["song_id", "path"]), segment / "manifest.parquet")
    (segment / "checkpoint").mkdir()
    pq.write_table(store.songs.select(["song_id"]), segment / "checkpoint" / "part.parquet")
    add_segment(catalog, segment, replacing=replacing)
    return store


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have somebody else do something once the next change has read which songs there are."""
    read = segments.songs_of

    def read_and_wait(*args: Any) -> Any:
        songs = read(*args)
        monkeypatch.undo()
        act()
        return songs

    for module in ("changes", "purge"):
        monkeypatch.setattr(f"lumina_ray.store.{module}.songs_of", read_and_wait)
