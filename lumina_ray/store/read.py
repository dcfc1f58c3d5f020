"""Reading a finished store."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumina_ray.errors import StoreError
from lumina_ray.fingerprint import Channel, Specification
from lumina_ray.store.run import DATA_FOLDER, MANIFEST_FILE, SUCCESS_FILE, Run, read_run
from lumina_ray.store.schema import norm_column, store_schema


@dataclass(frozen=True)
class Store:
    """A complete store, in memory.

    Attributes:
        songs: the `ok` rows, sorted by song_id.
        failed: the `failed` rows, sorted by song_id.
        generation: of a living catalog; None of a single store.
    """

    path: Path
    run: Run
    songs: pa.Table
    failed: pa.Table
    generation: int | None = None

    @property
    def specification(self) -> Specification:
        return self.run.specification

    @cached_property
    def song_ids(self) -> list[str]:
        return self.songs["song_id"].to_pylist()

    def vectors(self, channel: Channel) -> np.ndarray:
        """Float32 `[N, D]`, row i the fingerprint of `song_ids[i]`."""
        flat = self.songs[channel].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(self.songs), self.specification.dims[channel])

    def norms(self, channel: Channel) -> np.ndarray:
        """Float64 `[N]`, the length that row i of `vectors` had before it was made a unit vector."""
        return self.songs[norm_column(channel)].to_numpy()


def read_rows(store: Path, specification: Specification, columns: list[str] | None = None) -> pa.Table:
    """All committed rows of a store that need not be complete, in no particular order."""
    return read_parts(part_files(store), specification, columns)


def part_files(store: Path) -> list[Path]:
    """The data files of a store, in a fixed order."""
    return sorted((store / DATA_FOLDER).glob("*.parquet"))


def read_parts(files: list[Path], specification: Specification, columns: list[str] | None = None) -> pa.Table:
    """All rows of some data files."""
    schema = store_schema(specification)
    wanted = pa.schema([schema.field(column) for column in columns]) if columns else schema
    tables = [pq.read_table(file, columns=columns, schema=schema).cast(wanted) for file in files]
    return pa.concat_tables(tables) if tables else wanted.empty_table()


def check_complete(store: Path, specification: Specification) -> tuple[int, int]:
    """Check that every song of the manifest has exactly one row.

    Returns:
        How many songs are `ok` and how many `failed`.

    Raises:
        StoreError: songs missing, doubled or strange; names some of them.
    """
    rows = read_rows(store, specification, ["song_id", "status"])
    wanted = set(pq.read_table(store / MANIFEST_FILE, columns=["song_id"])["song_id"].to_pylist())
    counts = rows["song_id"].value_counts()
    found = set(counts.field("values").to_pylist())
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    for what, songs in (("without a row", wanted - found), ("unknown", found - wanted), ("doubled", set(doubled))):
        if songs:
            raise StoreError(
                f"{store}: {len(songs)} songs {what}, such as {sorted(songs)[:3]}; run the same `lumina fingerprint` "
                "again to finish it"
            )
    ok = pc.sum(pc.equal(rows["status"], "ok")).as_py() or 0
    return ok, len(rows) - ok


def read_finished_run(store: Path) -> Run:
    """What a finished store was made of.

    Raises:
        StoreError: no store, or not finished.
    """
    run = read_run(store)
    if not (store / SUCCESS_FILE).exists():
        raise StoreError(f"{store} is not finished (no {SUCCESS_FILE}); run the same `lumina fingerprint` again")
    return run


def read_store(path: Path | str) -> Store:
    """Read a complete store.

    Raises:
        StoreError: no store, not finished, or damaged.
    """
    folder = Path(path)
    run = read_finished_run(folder)
    try:
        rows = read_rows(folder, run.specification)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise StoreError(f"{folder}: damaged data: {error}") from error
    rows = rows.sort_by("song_id")
    ok = pc.equal(rows["status"], "ok")
    return Store(folder, run, rows.filter(ok), rows.filter(pc.invert(ok)))
