"""Durations of the songs in a manifest, as far as they can be known without decoding."""

from contextlib import closing

import numpy as np
import pyarrow as pa

from lumina_ray.audio.guard import CallFailed, Guard
from lumina_ray.catalog.scan import read_header
from lumina_ray.storage import RemotePath, locate

# Where a manifest gives no durations, so many headers are read; the other songs get their mean.
_HEADERS = 256
_LIMIT_S = 10.0
# A bucket that does not answer raises an error of its own, after all its attempts.
_LIMIT_BUCKET_S = 300.0


def song_durations(songs: pa.Table) -> tuple[np.ndarray, str]:
    """Durations of a manifest's songs, and where they come from.

    Durations that the manifest lacks are read from the files' headers; where these are many, from a sample of them. A
    file that cannot be opened, or that crashes or hangs the process that opens it, counts as 0 s.

    Returns:
        Float64 `[N]`, in seconds, and a phrase for people such as "durations of the manifest".

    Raises:
        StorageError: a bucket does not answer.
    """
    n = len(songs)
    given = songs["duration_s"].to_numpy() if "duration_s" in songs.column_names else np.full(n, np.nan)
    unknown = np.flatnonzero(np.isnan(given))
    if not len(unknown):
        return given, "durations of the manifest"
    durations_s = given.copy()
    tried = unknown[np.linspace(0, len(unknown) - 1, min(len(unknown), _HEADERS)).round().astype(int)]
    with closing(Guard()) as guard:
        read = [_header_duration_s(guard, songs["path"][int(i)].as_py()) for i in tried]
    durations_s[unknown] = np.mean(read)
    durations_s[tried] = read
    if len(tried) == len(unknown):
        return durations_s, f"durations of {len(tried)} files' headers"
    error = np.std(read) / np.sqrt(len(read)) / max(np.mean(read), 1e-9)
    return durations_s, f"durations of {len(tried)} files' headers for {len(unknown)} songs, ± {2 * error:.0%}"


def _header_duration_s(guard: Guard, song: str) -> float:
    path = locate(song)
    limit_s = _LIMIT_BUCKET_S if isinstance(path, RemotePath) else _LIMIT_S
    try:
        return guard.call(read_header, path, limit_s=limit_s).duration_s or 0.0
    except CallFailed:
        return 0.0
