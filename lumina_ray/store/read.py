"""Reading a finished store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.errors import SpecificationMismatch, StoreError
from lumina_ray.fingerprint import Specification
from lumina_ray.storage import AnyPath, Location, for_each, locate, read_parquet
from lumina_ray.store.run import DATA_FOLDER, MANIFEST_FILE, SUCCESS_FILE, Run, read_run
from lumina_ray.store.schema import norm_column, store_schema
from lumina_ray.vocabulary import EVIDENCE_COLUMNS, Channel, Evidence

# Arrow sorts and takes a column as one array, and one with offsets of 32 bits ends at 2 GiB.
_WIDE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
# Rows that are taken at once. An hour's codes are 1.4 MB, so that a piece fits into 32 bits again.
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Store:
    """A finished store, in memory.

    Attributes:
        songs: the `ok` rows, sorted by song_id.
        failed: the `failed` rows, sorted by song_id.
        generation: number of the living catalog's generation; None for a single store.
    """

    path: Location
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
        """Fingerprints, float32 `[N, D]`, unit vectors; row i belongs to `song_ids[i]`."""
        flat = self.songs[channel].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(self.songs), self.specification.dims[channel])

    def norms(self, channel: Channel) -> np.ndarray:
        """Lengths, float64 `[N]`, that the rows of `vectors` had before they were made unit vectors."""
        return self.songs[norm_column(channel)].to_numpy()

    def evidence(self) -> Iterator[tuple[int, dict[Evidence, np.ndarray] | None]]:
        """Rows of all songs, each once in any order, and the shared evidence of each: float16 `[n, D]` of each kind.

        It is None where a song has none of this version of the software.

        Raises:
            StoreError: damaged.
        """
        # SciPy comes with it.
        from lumina_ray.evidence.kept import from_columns

        for row, values in enumerate(self.songs.select(EVIDENCE_COLUMNS).to_pylist()):
            yield row, from_columns(values)


def read_rows(store: AnyPath, specification: Specification, columns: list[str] | None = None) -> pa.Table:
    """All rows of a store that nobody is filling; it need not be finished. The rows are in no particular order."""
    return read_data_files(list_data_files(store), specification, columns)


def list_data_files(store: AnyPath) -> list[Location]:
    """The data files of a store that is not being filled, in a fixed order."""
    store = locate(store)
    return sorted((store / DATA_FOLDER).glob("*.parquet"), key=str)


def read_data_files(
    files: Sequence[Location], specification: Specification, columns: list[str] | None = None
) -> pa.Table:
    """All rows of some data files, with the columns of `store_schema` or some of them."""
    schema = store_schema(specification)
    wanted = pa.schema([schema.field(column) for column in columns]) if columns else schema
    tables = for_each(lambda file: read_parquet(file, columns, schema).cast(wanted), files)
    return pa.concat_tables(tables) if tables else wanted.empty_table()


def sort_rows(rows: pa.Table) -> pa.Table:
    """Rows sorted by song_id. Unlike `Table.sort_by`, it works where a column holds more than 2 GiB."""
    return take_rows(rows, pc.sort_indices(rows["song_id"]))


def take_rows(rows: pa.Table, order: pa.Array) -> pa.Table:
    """The rows at some places, in that order. Unlike `Table.take`, it works where a column holds more than 2 GiB."""
    return pa.table([_take(column, order) for column in rows.columns], schema=rows.schema)


def _take(column: pa.ChunkedArray, order: pa.Array) -> pa.ChunkedArray:
    if column.type not in _WIDE:
        return column.take(order)
    whole = column.cast(_WIDE[column.type]).combine_chunks()
    places = (order.slice(i, _ROWS_AT_ONCE) for i in range(0, len(order), _ROWS_AT_ONCE))
    return pa.chunked_array([whole.take(piece).cast(column.type) for piece in places], column.type)


def check_metadata(store: Location, songs: pa.Table) -> None:
    """Check that a manifest gives its songs the same metadata as the manifest that a store was begun with.

    Args:
        songs: the manifest; its songs are those of the store, in the same order (see `manifest_sha256`).

    Raises:
        SpecificationMismatch: an owner, a title or the like has changed; rows made from now on would differ from
            those that are stored.
    """
    names = ["song_id", *METADATA_COLUMNS]
    # A store of an earlier version may lack a column.
    schema = pa.schema([(name, pa.string()) for name in names])
    begun_with = read_parquet(store / MANIFEST_FILE, names, schema)
    if not begun_with["song_id"].combine_chunks().equals(songs["song_id"].combine_chunks()):
        return  # Songs were purged from the store since.
    for name in METADATA_COLUMNS:
        before, now = begun_with[name], songs[name]
        other = pc.fill_null(pc.not_equal(before, now), False)
        changed = pc.indices_nonzero(pc.or_(other, pc.xor(pc.is_null(before), pc.is_null(now)))).to_pylist()
        if changed:
            first = changed[0]
            raise SpecificationMismatch(
                f"{store}: {len(changed)} songs have another {name} than when it was begun, such as "
                f"{songs['song_id'][first]}: {before[first].as_py()!r}, now {now[first].as_py()!r}. Give the manifest "
                "as it was, or choose another --out"
            )


def check_complete(store: Location, specification: Specification) -> tuple[int, int]:
    """Check that every song of the manifest has exactly one row.

    Returns:
        The number of songs that are `ok`, and of those that failed.

    Raises:
        StoreError: songs are missing, there twice, or unknown; names some of them, and the way to mend it.
    """
    rows = read_rows(store, specification, ["song_id", "status"])
    wanted = set(read_parquet(store / MANIFEST_FILE, ["song_id"])["song_id"].to_pylist())
    counts = rows["song_id"].value_counts()
    found = set(counts.field("values").to_pylist())
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    again = "run the same `lumina fingerprint` again"
    if (store / SUCCESS_FILE).exists():
        again = f"delete its {SUCCESS_FILE} and {again}"
    for what, songs, advice in (
        ("without a row", wanted - found, again),
        # A job only adds rows. None takes them out.
        ("unknown", found - wanted, "delete the store and make it again"),
        ("doubled", set(doubled), "delete the store and make it again"),
    ):
        if songs:
            raise StoreError(f"{store}: {len(songs)} songs {what}, such as {sorted(songs)[:3]}; {advice}")
    ok = pc.sum(pc.equal(rows["status"], "ok")).as_py() or 0
    return ok, len(rows) - ok


def read_finished_run(store: AnyPath) -> Run:
    """Read the `run.json` of a finished store.

    Raises:
        StoreError: no store, or not finished.
    """
    store = locate(store)
    run = read_run(store)
    if not (store / SUCCESS_FILE).exists():
        raise StoreError(f"{store} is not finished (no {SUCCESS_FILE}); run the same `lumina fingerprint` again")
    return run


def read_store(path: AnyPath, columns: list[str] | None = None) -> Store:
    """Read a finished store into memory.

    Args:
        columns: names of columns to read, song_id and status among them; by default all.

    Raises:
        StoreError: no store, not finished, or damaged. As `StorageError`: its bucket does not answer.
    """
    folder = locate(path)
    run = read_finished_run(folder)
    try:
        rows = read_rows(folder, run.specification, columns)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise StoreError(f"{folder}: damaged data: {error}") from error
    rows = sort_rows(rows)
    ok = pc.equal(rows["status"], "ok")
    return Store(folder, run, rows.filter(ok), rows.filter(pc.invert(ok)))
