"""Reading a snapshot and searching it. Shapes: Q queries, k results, N songs, D dimensions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumina_ray.calibration import CALIBRATION_FILE, Calibration, read_calibration
from lumina_ray.calibration.vectors import CHANNELS, Channel
from lumina_ray.catalog.files import sha256_of
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.index.bucket import fetch
from lumina_ray.index.channel import ChannelIndex, Found, nearest, read_channel, top_k
from lumina_ray.index.files import (
    CENTRES_FILE,
    FORMAT_VERSION,
    IDS_FILE,
    MANIFEST_FILE,
    mean_column,
    versions,
)
from lumina_ray.index.withdrawn import Withdrawals
from lumina_ray.storage import Location, RemotePath


@dataclass(frozen=True)
class Snapshot:
    """One immutable version of an index.

    Attributes:
        version: such as "v0007".
        songs: row i describes vector i of both channels.
        means: channel → float64 `[N]`, each song's mean similarity to the rest of the catalog.
        centres: channel → float64 `[D]`, the mean vector of the catalog.
        withdrawals: songs that are left out of every answer, because they were taken out of the catalog since.
        remembered: what attribution made of songs that it found, by row, so that it need not do it again.
    """

    version: str
    manifest: dict
    songs: pa.Table
    calibration: Calibration
    means: dict[Channel, np.ndarray]
    centres: dict[Channel, np.ndarray]
    indexes: dict[Channel, ChannelIndex]
    withdrawals: Withdrawals
    remembered: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.songs)

    @property
    def n_present(self) -> int:
        """Songs that may be found."""
        return len(self.songs) - len(self.withdrawals.rows())

    @property
    def key(self) -> str:
        return self.manifest["key"]

    @property
    def specification_sha256(self) -> str:
        return self.manifest["specification_sha256"]

    def vectors(self, channel: Channel, rows: np.ndarray) -> np.ndarray:
        """Float32 `[len(rows), D]`."""
        return self.indexes[channel].vectors(rows)

    def search(self, channel: Channel, query_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar songs of each query, most similar first, equal ones by row.

        The answer to one query does not depend on the others in its batch: what FAISS retrieves is scored again in
        float64. An approximate index may miss songs, as often as the manifest's recall says, and scores none wrongly.

        Args:
            query_QD: float `[Q, D]`.
            k: at least 1; more than N is N.

        Returns:
            scores: float32 `[Q, min(k, N)]`, inner products; N does not count withdrawn songs.
            rows: int64 `[Q, min(k, N)]`.

        Raises:
            SpecificationMismatch: D is not the index's.
            UsageError: k below 1, or values that are not finite.
        """
        return top_k(*self._asked(channel, query_QD, k))

    def nearest(self, channel: Channel, query_QD: np.ndarray, k: int) -> Iterator[Found]:
        """What `search` finds, with the vectors of what was found: query by query, as they may be large."""
        return nearest(*self._asked(channel, query_QD, k))

    def _asked(
        self, channel: Channel, query_QD: np.ndarray, k: int
    ) -> tuple[ChannelIndex, np.ndarray, int, np.ndarray]:
        index = self.indexes[channel]
        queries = np.ascontiguousarray(query_QD, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != index.dims:
            raise SpecificationMismatch(
                f"channel {channel} holds {index.dims} dimensions, the query is {queries.shape}"
            )
        if not np.isfinite(queries).all():
            raise UsageError(f"channel {channel}: the query holds values that are not finite")
        if k < 1:
            raise UsageError(f"k must be at least 1, got {k}")
        withdrawn = self.withdrawals.rows()
        return index, queries, min(k, len(self.songs) - len(withdrawn)), withdrawn


def newest_snapshot(path: Location) -> Path:
    """The folder of the newest complete snapshot of an index; a snapshot's own folder is itself.

    One in a bucket is copied to this machine first, where it is not there already.

    Raises:
        StoreError: there is none. As `StorageError`: its bucket does not answer.
    """
    newest = _newest(path)
    return fetch(newest, read_manifest(newest)["files"]) if isinstance(newest, RemotePath) else newest


def _newest(path: Location) -> Location:
    if not path.is_dir():
        raise StoreError(f"{path} does not exist: build it with `lumina index STORE --out {path}`")
    if (path / MANIFEST_FILE).is_file():
        return path
    for _, folder in reversed(versions(path)):
        if is_complete(folder):
            return folder
    raise StoreError(f"{path} holds no complete snapshot: build one with `lumina index STORE --out {path}`")


def is_complete(folder: Location) -> bool:
    """Whether a snapshot is all there: one that is still being copied has no manifest, or not all that it lists.

    Raises:
        StoreError: its manifest is damaged.
    """
    return (folder / MANIFEST_FILE).is_file() and all(
        (folder / name).is_file() for name in read_manifest(folder)["files"]
    )


def load_snapshot(path: Location) -> Snapshot:
    """Load an index (its newest complete snapshot) or one snapshot, after checking every file against its sha256.

    Raises:
        StoreError: nothing there, another format, or a file that differs from what was written.
    """
    folder = newest_snapshot(path)
    manifest = read_manifest(folder)
    if manifest["format_version"] != FORMAT_VERSION:
        raise StoreError(
            f"{folder} has format version {manifest['format_version']}, this software reads {FORMAT_VERSION}: "
            "build the index again"
        )
    for name, sha256 in manifest["files"].items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise StoreError(
                f"{folder / name} is missing or damaged (its sha256 is not the manifest's): build it again"
            )
    songs = pq.read_table(folder / IDS_FILE)
    channels: list[Channel] = [c for c in CHANNELS if c in manifest["dims"]]
    with np.load(folder / CENTRES_FILE, allow_pickle=False) as centres:
        return Snapshot(
            version=folder.resolve().name,
            manifest=manifest,
            songs=songs,
            calibration=read_calibration(folder / CALIBRATION_FILE),
            means={c: songs[mean_column(c)].to_numpy() for c in channels},
            centres={c: centres[c] for c in channels},
            indexes={c: read_channel(folder, c, manifest["indexes"][c]) for c in channels},
            withdrawals=Withdrawals(folder.parent, songs, manifest.get("generation")),
        )


def read_manifest(folder: Location) -> dict:
    """What a snapshot was made of.

    Raises:
        StoreError: damaged.
    """
    file = folder / MANIFEST_FILE
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        files = manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({error}): build the index again") from error
    if not isinstance(files, dict) or any("/" in name for name in files):
        raise StoreError(f"{file} is damaged (its list of files): build the index again")
    return manifest
