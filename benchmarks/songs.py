"""Songs of noise, as files: what benchmarks fingerprint. Cost does not depend on what music sounds like."""

from pathlib import Path

import numpy as np
import soundfile

from lumina_ray.catalog.manifest import manifest_of, write_manifest

_RATE_HZ = 44_100
# Written so often; the other songs are links to these.
_DISTINCT = 8


def write_songs(folder: Path, n: int, shortest_s: float, longest_s: float) -> Path:
    """Write stereo FLAC files with durations evenly between two, and their manifest, which is returned."""
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
