"""The data files of a store while it is being filled: what counts, how much it is, and what has to go.

A data file `data/X-0.parquet` counts from the moment that its record is `checkpoint/X.parquet`. Until then the record
is `checkpoint/X.pending.parquet`, and Ray Data deletes both when the job is resumed. A bucket cannot rename: there the
record is copied and the pending one deleted, and a job that dies in between leaves both.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumina_ray.errors import StorageError
from lumina_ray.storage import Location, address, answering, for_each, read_parquet
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

    def __init__(self, store: Location) -> None:
        self._store = store
        self._parts: dict[str, Part] = {}

    def count(self) -> Tally:
        return sum((part.tally for part in self.parts()), Tally())

    def parts(self) -> list[Part]:
        """What is there now: a file may go again, when it was not committed and the job is resumed.

        Raises:
            StorageError: a data file is there and cannot be read.
        """
        names = set(_committed(self._store))
        self._parts = {name: part for name, part in self._parts.items() if name in names}
        new = sorted(names - self._parts.keys())
        self._parts |= {name: part for name, part in zip(new, for_each(self._read, new), strict=True) if part}
        return list(self._parts.values())

    def _read(self, name: str) -> Part | None:
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
        return Part(committed_s, Tally(len(rows), audio_s, failures))


def failed_rows(store: Location) -> list[dict]:
    """The committed failed rows of a store, by song_id: `song_id`, `error_code`, `error`, `path`.

    Raises:
        StorageError: a data file is there and cannot be read.
    """
    columns = ["song_id", "error_code", "error", "path"]

    def failed(name: str) -> list[dict]:
        path = store / DATA_FOLDER / name
        try:
            with _answering(path):
                part = read_parquet(path, ["status", *columns])
        except (pa.ArrowInvalid, OSError):
            return []  # Gone, or damaged.
        return part.filter(pc.equal(part["status"], "failed")).select(columns).to_pylist()

    return sorted(chain.from_iterable(for_each(failed, _committed(store))), key=lambda row: row["song_id"])


def drop_damaged(store: Location) -> list[str]:
    """Delete what no resumed job would mend: its songs are made again.

    That is data files that cannot be read, such as truncated ones, with their records; data files without any record,
    whose songs would be made a second time; and records without a data file, whose songs would never be.

    Only where nobody is writing to the store. Damage before a sound end of a file is found when the store is read.

    Returns:
        The names of the data files, the lost ones among them.

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
        # The record first: without its file, it would say that songs are stored that are not.
        (store / CHECKPOINT_FOLDER / f"{_stem(name)}.parquet").unlink(missing_ok=True)
        (store / DATA_FOLDER / name).unlink(missing_ok=True)
    return sorted(damaged + lost)


def finish_commits(store: Location) -> None:
    """Delete pending records of what is committed: Ray Data would delete the data files, and keep the other records.

    Only where nobody is writing to the store.
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
    """Pending and committed ones, by what they share with their data files."""
    names = _tables(store / CHECKPOINT_FOLDER)
    pending = {name.removesuffix(_PENDING) for name in names if name.endswith(_PENDING)}
    return pending, {name.removesuffix(".parquet") for name in names if not name.endswith(_PENDING)}


def _stem(data_file: str) -> str:
    return data_file.rpartition("-")[0]


def _tables(folder: Location) -> list[str]:
    """Not by `glob`, to which a folder that nobody may list is empty: all that belongs to its files would be lost."""
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
    """Tell a disk that fails, or refuses, from a file that is damaged or gone: those errors stay what they are.

    Raises:
        StorageError: the system cannot read the file.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        # pyarrow's of a damaged file have no number.
        if error.errno is None:
            raise
        cause = str(error).splitlines()[0]
        raise StorageError(f"{path}: cannot be read ({cause}); see to it, and run the same command again") from error
