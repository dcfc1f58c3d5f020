"""The data files of a store while it is being filled: what counts, how much it is, and what has to go.

A data file `data/X-0.parquet` counts from the moment that its record is `checkpoint/X.parquet`. Until then the record
is `checkpoint/X.pending.parquet`, and Ray Data deletes both when the job is resumed.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumina_ray.store.run import CHECKPOINT_FOLDER, DATA_FOLDER

_PENDING = ".pending.parquet"


@dataclass(frozen=True)
class Tally:
    """Songs in a store: all of them, the audio of those that are `ok`, and the others by their error code."""

    songs: int = 0
    audio_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.songs + other.songs, self.audio_s + other.audio_s, self.failures + other.failures)

    @property
    def failed(self) -> int:
        return self.failures.total()


@dataclass(frozen=True)
class Part:
    """A committed data file.

    Attributes:
        committed_s: when it was written, by the clock of whatever wrote it: seconds since the epoch.
    """

    committed_s: float
    tally: Tally


class StoreCounter:
    """Counts the committed rows of a store, reading each file once."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._parts: dict[str, Part] = {}

    def count(self) -> Tally:
        return sum((part.tally for part in self.parts()), Tally())

    def parts(self) -> list[Part]:
        """What is there now: a file may go again, when it was not committed and the job is resumed."""
        names = set(_committed(self._store))
        self._parts = {name: part for name, part in self._parts.items() if name in names}
        for name in names - self._parts.keys():
            path = self._store / DATA_FOLDER / name
            try:
                committed_s = path.stat().st_mtime
                rows = pq.read_table(path, columns=["status", "error_code", "duration_s"], partitioning=None)
            except (pa.ArrowInvalid, OSError):
                continue  # Gone, or damaged.
            ok = pc.equal(rows["status"], "ok")
            audio_s = pc.sum(rows.filter(ok)["duration_s"]).as_py() or 0.0
            failures = Counter(rows.filter(pc.invert(ok))["error_code"].to_pylist())
            self._parts[name] = Part(committed_s, Tally(len(rows), audio_s, failures))
        return list(self._parts.values())


def failed_rows(store: Path) -> list[dict]:
    """The committed failed rows of a store, by song_id: `song_id`, `error_code`, `error`, `path`."""
    columns = ["song_id", "error_code", "error", "path"]
    rows: list[dict] = []
    for name in _committed(store):
        try:
            part = pq.read_table(store / DATA_FOLDER / name, columns=["status", *columns], partitioning=None)
        except (pa.ArrowInvalid, OSError):
            continue  # Gone, or damaged.
        rows += part.filter(pc.equal(part["status"], "failed")).select(columns).to_pylist()
    return sorted(rows, key=lambda row: row["song_id"])


def drop_damaged(store: Path) -> list[str]:
    """Delete data files that cannot be read, such as truncated ones, and their records: their songs are made again.

    Only where nobody is writing to the store. Damage before a sound end of a file is found when the store is read.

    Returns:
        The names of the data files.
    """
    damaged = [name for name in _committed(store) if not _is_parquet(store / DATA_FOLDER / name)]
    for name in damaged:
        # The record first: without its file, it would say that songs are stored that are not.
        (store / CHECKPOINT_FOLDER / f"{_stem(name)}.parquet").unlink(missing_ok=True)
        (store / DATA_FOLDER / name).unlink()
    return damaged


def _committed(store: Path) -> list[str]:
    pending = {path.name.removesuffix(_PENDING) for path in (store / CHECKPOINT_FOLDER).glob(f"*{_PENDING}")}
    names = (path.name for path in (store / DATA_FOLDER).glob("*.parquet"))
    return sorted(name for name in names if _stem(name) not in pending)


def _stem(data_file: str) -> str:
    return data_file.rpartition("-")[0]


def _is_parquet(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError):
        return False
    return True
