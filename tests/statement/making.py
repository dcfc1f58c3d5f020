"""Reports to make statements of: real ones of a synthetic catalog, whose songs are given owners afterwards."""

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lumina_ray.attribution import attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.report import to_json
from tests.calibration.synthetic import DIMS, demo_stores, mixture, query, unit

N_SONGS, N_CONTROLS = 130, 60


def canonical(values: Any) -> bytes:
    """Values as the bytes of a report."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def changed(report: bytes, change: Callable[[dict], object]) -> bytes:
    """A report with other values, laid out as reports are."""
    values = json.loads(report)
    change(values)
    return canonical(values)


def of_audio(report: bytes, number: int) -> bytes:
    """A report as if it were about other audio."""
    return changed(report, lambda values: values["query"].update(audio_sha256=f"{number:064x}"))


def give_owners(values: dict) -> None:
    """Give each song of a report its owners, by its number: some have splits, some nobody."""
    for channel in values["near_copies"].values():
        for candidate in channel["candidates"]:
            for song in (candidate["song"], *candidate["equal_songs"]):
                number = int(song["song_id"].rpartition("-")[2])
                song["publisher"] = None if number % 5 == 4 else f"Publisher {number % 5}"
                song["master_owner"] = f"Label {number % 3}"
                song["splits"] = (
                    f"A. Writer {number % 7 + 1}.5 %; Ünal & Co {98.5 - number % 7} %" if number % 2 else None
                )


def real_reports(n: int, seed: int = 0, chunks: int = 4) -> list[bytes]:
    """Reports of `n` clips: each a mixture of two catalog songs, but for every fifth, which is unrelated music.

    Every fourth clip has a single chunk.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, controls, worlds = demo_stores(folder, N_SONGS, N_CONTROLS, seed)
        write_calibration(calibrate_store(store, controls), store.path)
        snapshot = load_snapshot(build_index(store, folder / "index"))
        made = []
        for k in range(n):
            n_chunks = 1 if k % 4 == 0 else chunks
            parts = {c: worlds[c].music(n_chunks) for c in DIMS}
            songs = rng.integers(N_SONGS, size=2)
            for c in DIMS:
                for i in range(n_chunks if k % 5 else 0):
                    parts[c][i] = mixture(store.vectors(c)[songs[i % 2]], parts[c][i], 0.7 + 0.25 * rng.random())
            asked = query({c: unit(parts[c].mean(axis=0)).astype(np.float32) for c in DIMS}, parts)
            report = attribute(dataclasses.replace(asked, audio_sha256="b" * 64), snapshot)
            made.append(changed(to_json(report).encode(), give_owners))
    return made
