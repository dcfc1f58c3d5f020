"""Score tables and features whose structure is laid down."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumina_ray.methods.table import METHOD_KEY, SONGS_KEY

SONGS = tuple(f"song {i:03}" for i in range(60))
QUERIES = tuple(f"query {i:02}" for i in range(24))
CLUSTER_N = np.arange(60) % 6
CLUSTER_Q = np.arange(24) % 6


def score_table(scores_NQ: np.ndarray, method: str = "influence", channels: str = "PM") -> pa.Table:
    """Scores of all songs, in the form of `lumina scores`; rows of all channels are equal."""
    n, q = scores_NQ.shape
    pieces = [
        pa.table({
            "query_id": np.repeat(QUERIES[:q], n),
            "channel": np.repeat(channel, n * q),
            "rank": np.tile(np.arange(1, n + 1), q),
            "song_id": np.tile(SONGS[:n], q),
            "score": scores_NQ.T.ravel(),
        })
        for channel in channels
    ]  # fmt: skip
    return pa.concat_tables(pieces).replace_schema_metadata({METHOD_KEY: method, SONGS_KEY: str(n)})


def clustered_scores(seed: int = 0, noise: float = 1.0) -> np.ndarray:
    """Every query scores the songs of its own cluster highest."""
    own_NQ = (CLUSTER_N[:, None] == CLUSTER_Q).astype(float)
    return 3 * own_NQ + noise * np.random.default_rng(seed).standard_normal(own_NQ.shape)


def feature_table(seed: int = 0) -> pa.Table:
    """Timbre follows the clusters, rhythm does not, and harmony is chords that are one sequence in each cluster."""
    rng = np.random.default_rng(seed)
    timbre_ND = rng.standard_normal((6, 3))[CLUSTER_N] * 3 + rng.standard_normal((60, 3))
    roots = [[(5 * i * (cluster + 1) + cluster * i * i) % 12 for i in range(9)] for cluster in range(6)]
    return pa.table({
        "song_id": SONGS,
        "title": ["x"] * 60,
        **{f"timbre.mfcc.{d}": timbre_ND[:, d] for d in range(3)},
        "rhythm.onsets": list(rng.standard_normal((60, 4))),
        "rhythm.density": rng.standard_normal(60),
        "harmony.chords.roots": [roots[cluster] for cluster in CLUSTER_N],
    })  # fmt: skip


def write(table: pa.Table, path: Path) -> Path:
    pq.write_table(table, path)
    return path
