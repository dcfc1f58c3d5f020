"""The layout of an index folder, shared by its writer and its reader.

    INDEX/v0001/P.faiss, M.faiss      exact index: vectors, row i of each belongs to row i of ids.parquet
               /P-0.faiss, P-1.faiss  approximate index: shards of consecutive rows; as a rule one
               /P.npy                 and its exact vectors, float32 [N, D]
               /ids.parquet           songs: id, metadata, noise per channel: what controls find alike to each
               /equal_songs.parquet   those of them whose audio another one has, too, under another id
               /centres.npz           mean vector of the catalog per channel, float64 [D]; and its reference songs,
                                      float32 [R, D], with their noise
               /calibration.json      the noise that answers are judged by
               /membership.parquet    was the model trained on each song? Only if `lumina use` was run
               /shared.parquet        the hub of each song in shared evidence, and its noise; and of all chunks the
               /shared-sound.npy      vectors of sound, float16 [n, D], and those of composition likewise. Only if the
                                      stores of catalog and controls have shared evidence
               /effects.json          what similarities are worth in nats. Only with `lumina index --effects`
               /manifest.json         what it was made of, and the sha256 of every other file

A snapshot never changes. There is no pointer to the newest one: it is the complete one with the highest number.
"""

import re

from lumina_ray.storage import Location

MANIFEST_FILE = "manifest.json"
IDS_FILE = "ids.parquet"
EQUAL_SONGS_FILE = "equal_songs.parquet"
CENTRES_FILE = "centres.npz"
FORMAT_VERSION = 4
"""Snapshots before 3 did not list songs of equal audio; those before 4 had no noise of songs."""

_VERSION = re.compile(r"v(\d{4,})")


def shard_file(channel: str, shard: int | None = None) -> str:
    return f"{channel}.faiss" if shard is None else f"{channel}-{shard}.faiss"


def vectors_file(channel: str) -> str:
    return f"{channel}.npy"


def version_name(number: int) -> str:
    return f"v{number:04d}"


def versions(index: Location) -> list[tuple[int, Location]]:
    """Version folders with their numbers, ascending; complete or not."""
    found = ((_VERSION.fullmatch(path.name), path) for path in index.iterdir() if path.is_dir())
    return sorted(((int(match[1]), path) for match, path in found if match), key=lambda version: version[0])
