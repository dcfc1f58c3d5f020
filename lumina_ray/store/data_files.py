"""The data files of a store while it is being filled: which of them count, what is in them, and which must go.

A data file `data/X-0.parquet` is committed once `checkpoint/X.parquet`, its record, is there. Until then the record is
`checkpoint/X.pending.parquet`, and Ray Data deletes both when the job is resumed. A bucket cannot rename: there the
record is copied and the pending one deleted, and a job that dies in between leaves both.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumina_ray.errors import StorageError
from lumina_ray.storage import AnyPath, Location, address, answering, for_each, locate, read_parquet
from lumina_ray.store.run import CHECKPOINT_FOLDER, DATA_FOLDER, read_run

_PENDING = ".pending.parquet"


@dataclass(frozen=True)
class Tally:
    """Songs in a store.

    Attributes:
        songs: all of them, `ok` and failed.
        audio_s: duration of those that are `ok`.
        failures: number of failed songs by error code.
    """

    songs: int = 0
    audio_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.songs + other.songs, self.audio_s + other.audio_s, self.failures + other.failures)

    @property
    def failed(self) -> int:
        return self.failures.total()


@dataclass(frozen=True)
class DataFile:
    """A committed data file.

    Attributes:
        committed_s: time of the commit by the storage's clock, in seconds since the epoch.
    """

    committed_s: float
    tally: Tally


class StoreCounter:
    """Counts the committed rows of a store. Each data file is read once; several threads may share a counter."""

    def __init__(self, store: AnyPath) -> None:
        self._store = locate(store)
        self._read_before: dict[str, DataFile] = {}
        self._lock = threading.Lock()

    def count(self) -> Tally:
        """Songs that are committed now.

        Raises:
            StorageError: a data file is there and cannot be read.
        """
        return sum((file.tally for file in self.data_files()), Tally())

    def data_files(self) -> list[DataFile]:
        """The data files that are committed now. One that was there may be gone: it was damaged, or not committed.

        Raises:
            StorageError: a data file is there and cannot be read.
        """
        with self._lock:
            names = set(_committed(self._store))
            files = {name: file for name, file in self._read_before.items() if name in names}
            new = sorted(names - files.keys())
            files |= {name: file for name, file in zip(new, for_each(self._read, new), strict=True) if file}
            self._read_before = files
            return list(files.values())

    def _read(self, name: str) -> DataFile | None:
        path = self._store / DATA_FOLDER / name
        try:
            with _answering(path):
                committed_s = path.stat().st_mtime
                rows = read_parquet(path, ["status", "error_code", "duration_s"])
        except (pa.ArrowInvalid, OSError):
            return None  # Gone, or damaged.
        ok = pc.equal(rows["status"], "ok")
        audio_s = pc.sum(rows.filter(ok)["duration_s"]).as_py() or 0.0
        failures = Counter(rows.filter(pc.invert(ok))["error_code"].to_pylist())
        return DataFile(committed_s, Tally(len(rows), audio_s, failures))


def failed_rows(store: AnyPath) -> list[dict]:
    """The committed failed rows of a store, sorted by song_id; the store need not be finished.

    Returns:
        A dictionary for each song: `song_id`, `error_code`, `error`, `path`.

    Raises:
        StoreError: no store, or its `run.json` is damaged. As `StorageError`: a data file cannot be read.
    """
    read_run(locate(store))
    columns = ["song_id", "error_code", "error", "path"]
    rows = committed_rows(store, ["status", *columns])
    failed = rows.filter(pc.equal(rows["status"], "failed")).select(columns)
    return sorted(failed.to_pylist(), key=lambda row: row["song_id"])


def committed_rows(store: AnyPath, columns: list[str]) -> pa.Table:
    """Some columns of text of the committed rows, in no particular order. Damaged files are passed over.

    Raises:
        StorageError: a data file is there and cannot be read.
    """
    folder = locate(store)
    schema = pa.schema([(column, pa.string()) for column in columns])

    def rows(name: str) -> pa.Table:
        path = folder / DATA_FOLDER / name
        try:
            with _answering(path):
                return read_parquet(path, columns).cast(schema)
        except (pa.ArrowInvalid, OSError):
            return schema.empty_table()  # Gone, or damaged.

    return pa.concat_tables([schema.empty_table(), *for_each(rows, _committed(folder))])


def drop_damaged(store: Location) -> list[str]:
    """Delete damaged files that a resumed job would not mend by itself. Their songs are then made again.

    These are data files that cannot be read, such as truncated ones, with their records; data files without any
    record, whose songs would be made a second time; and records without a data file, whose songs would never be made.

    Call it only while nobody writes to the store. Damage before a sound end of a file is found when the store is read.

    Returns:
        The names of the data files, lost ones included.

    Raises:
        StorageError: something cannot be read, and so is not known to be damaged; nothing was deleted.
    """
    names = _data_files(store)
    pending, committed = _records(store)
    counted = [name for name in names if _stem(name) not in pending - committed]
    sound = for_each(lambda name: _is_parquet(store / DATA_FOLDER / name), counted)
    damaged = [
        name for name, is_sound in zip(counted, sound, strict=True) if not is_sound or _stem(name) not in committed
    ]
    lost = [f"{stem}-0.parquet" for stem in committed - {_stem(name) for name in names}]
    for name in (*damaged, *lost):
        # The record goes first: without its data file, it would say that songs are stored that are not.
        (store / CHECKPOINT_FOLDER / f"{_stem(name)}.parquet").unlink(missing_ok=True)
        (store / DATA_FOLDER / name).unlink(missing_ok=True)
    return sorted(damaged + lost)


def finish_commits(store: Location) -> None:
    """Delete pending records of committed files: Ray Data would delete the data files, and keep the other records.

    Call it only while nobody writes to the store.
    """
    pending, committed = _records(store)
    for stem in pending & committed:
        (store / CHECKPOINT_FOLDER / f"{stem}{_PENDING}").unlink()


def _committed(store: Location) -> list[str]:
    pending, committed = _records(store)
    return [name for name in _data_files(store) if _stem(name) not in pending - committed]


def _data_files(store: Location) -> list[str]:
    return _tables(store / DATA_FOLDER)


def _records(store: Location) -> tuple[set[str], set[str]]:
    """Pending and committed records, by the beginning of the name that they share with their data files."""
    names = _tables(store / CHECKPOINT_FOLDER)
    pending = {name.removesuffix(_PENDING) for name in names if name.endswith(_PENDING)}
    return pending, {name.removesuffix(".parquet") for name in names if not name.endswith(_PENDING)}


def _stem(data_file: str) -> str:
    return data_file.rpartition("-")[0]


def _tables(folder: Location) -> list[str]:
    """Names of Parquet files. `glob` would not do: it finds nothing in a folder that may not be listed."""
    try:
        with _answering(folder):
            return sorted(path.name for path in folder.iterdir() if path.name.endswith(".parquet"))
    except FileNotFoundError:
        return []


def _is_parquet(path: Location) -> bool:
    name, filesystem = address(path)
    try:
        with _answering(path), answering(path):
            pq.read_metadata(name, filesystem=filesystem)
    except (pa.ArrowInvalid, OSError):
        return False
    return True


@contextmanager
def _answering(path: Location) -> Iterator[None]:
    """Raise an error of its own where a disk fails or refuses. Errors of damaged and missing files pass unchanged.

    Raises:
        StorageError: the system cannot read the file.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        # pyarrow's errors of a damaged file have no number.
        if error.errno is None:
            raise
        cause = str(error).splitlines()[0]
        raise StorageError(f"{path}: cannot be read ({cause}); see to it, and run the same command again") from error
