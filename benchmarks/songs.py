"""Writes songs of noise as files, for benchmarks to fingerprint. Cost does not depend on the sound of music."""

from pathlib import Path

import numpy as np
import soundfile

from lumina_ray.catalog.manifest import manifest_of, write_manifest

_RATE_HZ = 44_100
# Number of files that are written; further songs refer to these.
_DISTINCT = 8


def write_songs(folder: Path, n: int, shortest_s: float, longest_s: float) -> Path:
    """Write stereo FLAC files and their manifest, and return the manifest's path.

    Args:
        folder: folder to write to.
        n: number of songs.
        shortest_s: duration of the shortest song, in seconds. Durations are evenly spaced.
        longest_s: duration of the longest song, in seconds.
    """
    rng = np.random.default_rng(0)
    durations_s = np.linspace(shortest_s, longest_s, _DISTINCT)
    for i, duration_s in enumerate(durations_s[:n]):
        samples = 0.1 * rng.standard_normal((round(duration_s * _RATE_HZ), 2))
        soundfile.write(folder / f"{i}.flac", samples, _RATE_HZ)
    rows = [
        {
            "song_id": f"song {i:06}",
            "path": str(folder / f"{i % _DISTINCT}.flac"),
            "duration_s": float(durations_s[i % _DISTINCT]),
        }
        for i in range(n)
    ]
    write_manifest(manifest_of(rows), folder / "manifest.parquet")
    return folder / "manifest.parquet"
