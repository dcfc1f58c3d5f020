"""Tables of manifests as files, CSV and Parquet: every row of a file is a row of the table, or there is an error.

Text becomes `string`, whichever of Arrow's types for text a program wrote (`large_string`, `string_view`, categories).
"""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import closing
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from lumina_ray.errors import ManifestError
from lumina_ray.files import atomic_path
from lumina_ray.storage import Location, RemotePath

MAX_SONGS = 10_000_000
MAX_BYTES = 4 << 30
"""The most that a manifest may take in memory, uncompressed."""
MAX_LINE_CHARACTERS = 1 << 22

_PARQUET_ROWS_AT_ONCE = 1024
_CSV_ROWS_AT_ONCE = 16_384
# Bytes that are no UTF-8 are decoded to these surrogates.
_NO_TEXT = re.compile("[\0\udc80-\udcff]")
# A spreadsheet runs a text that begins so, also after spaces; full-width characters count as plain ones. An apostrophe
# in front makes it text. A text that has one of its own gets another, so that reading takes off what writing put on.
_FORMULA = r"'*(?:[\t\r]|[\s\"]*[=+\-@＝＋－＠])"


def read_csv(path: Location) -> pa.Table:
    """Read a CSV file with every column as text: an id such as 00123 must not become a number. Empty is null.

    Raises:
        ManifestError: the file is not UTF-8 or not CSV, a row has more or fewer values than the header, or a value
            that runs over several lines has swallowed a row. The message gives the line, counted from 1.
    """
    try:
        with closing(_open_text(path)) as file:
            return _table(path, file)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read as CSV ({error}); check the disk") from error


def read_parquet_table(path: Location) -> pa.Table:
    """Read a Parquet file; the rows are as many as its footer says.

    Raises:
        ManifestError: the file is damaged or larger than the limits.
    """
    # Objects in buckets are read whole first, so that an outage is not taken for damage.
    source = pa.py_buffer(path.read_bytes()) if isinstance(path, RemotePath) else str(path)
    try:
        with pq.ParquetFile(source) as file:
            n_songs, n_bytes, batches = file.metadata.num_rows, 0, []
            plain = pa.schema([field.with_type(_plain(field.type)) for field in file.schema_arrow])
            # Read in pieces: a small file may unpack to any size, and its footer need not tell. The footer counts a
            # title once that a dictionary has once, however many songs have it.
            for batch in file.iter_batches(_PARQUET_ROWS_AT_ONCE) if n_songs <= MAX_SONGS else ():
                columns = [_decoded(column) for column in batch.columns]
                batches.append(pa.RecordBatch.from_arrays(columns, schema=plain))
                n_bytes += batches[-1].nbytes
                if n_bytes > MAX_BYTES:
                    break
        if n_songs > MAX_SONGS or n_bytes > MAX_BYTES:
            raise ManifestError(
                f"{path}: {n_songs} songs in more than {n_bytes} bytes uncompressed, the limits are {MAX_SONGS} "
                f"and {MAX_BYTES}; split the manifest"
            )
        table = pa.Table.from_batches(batches, plain)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{path}: cannot be read as Parquet ({error}); write it again") from error
    if len(table) != n_songs:
        raise ManifestError(f"{path}: its footer says {n_songs} rows, {len(table)} are there; write it again")
    return table


def write_csv(table: pa.Table, path: Location) -> None:
    """Write a CSV file that `read_csv` reads back, and in which a spreadsheet takes no text for a formula."""
    columns = [
        pc.replace_substring_regex(column, f"^({_FORMULA})", r"'\1") if pa.types.is_string(column.type) else column
        for column in table.columns
    ]
    with atomic_path(path) as temporary:
        pacsv.write_csv(pa.table(columns, table.column_names), temporary)


def write_parquet(table: pa.Table, path: Location) -> None:
    """Write a Parquet file."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def _open_text(path: Location) -> TextIO:
    source = io.BytesIO(path.read_bytes()) if isinstance(path, RemotePath) else path.open("rb")
    # With newline="" lines end at \n, \r\n or \r, and keep their ends, as the csv module asks for.
    return io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _table(path: Location, file: TextIO) -> pa.Table:
    records = _records(path, file)
    _, names = next(records, (1, None))
    if not names:
        raise ManifestError(f"{path}: cannot be read as CSV: it has no header row")
    schema = pa.schema([(name, pa.string()) for name in names])
    batches: list[pa.RecordBatch] = []
    rows: list[list[str]] = []
    for count, (line, record) in enumerate(records, start=1):
        if count > MAX_SONGS:
            raise ManifestError(f"{path}: more than {MAX_SONGS} songs, the limit; split the manifest")
        if len(record) != len(names):
            raise ManifestError(
                f"{path}: cannot be read as CSV: line {line} has {len(record)} values, the header {len(names)}; put "
                "quotes around values with commas, and leave no value out"
            )
        rows.append(record)
        if len(rows) == _CSV_ROWS_AT_ONCE:
            batches.append(_batch(rows, schema))
            rows = []
    if rows:
        batches.append(_batch(rows, schema))
    return pa.Table.from_batches(batches, schema)


def _batch(rows: list[list[str]], schema: pa.Schema) -> pa.RecordBatch:
    columns = (
        pc.replace_substring_regex(pa.array([value or None for value in values], pa.string()), f"^'({_FORMULA})", r"\1")
        for values in zip(*rows, strict=True)
    )
    return pa.RecordBatch.from_arrays(list(columns), schema=schema)


def _records(path: Location, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The records of a file, each with the number of its first line. Blank lines are none."""
    lines = _Lines(path, file)
    reader = csv.reader(lines, strict=True)
    n_columns, first = 0, 1
    try:
        for record in reader:
            n_columns = n_columns or len(record)
            # An open quote takes in the rows that follow, up to the next quote: these have a comma less than columns.
            # The lines of a text that somebody meant to have several have fewer.
            for line, commas in enumerate(lines.commas[1:], start=first + 1):
                if n_columns > 1 and commas >= n_columns - 1:
                    raise ManifestError(
                        f"{path}: line {line} is inside quotes that were opened in line {first} or after it, and looks "
                        "like a row; close the quotes, or write the value in one line"
                    )
            if record:
                yield first, record
            first = reader.line_num + 1
            lines.commas.clear()
    except csv.Error as error:
        raise ManifestError(
            f"{path}: cannot be read as CSV ({error}, in the row of line {first}); close its quotes, and double those "
            "inside a value"
        ) from error


class _Lines:
    """Lines of text, checked to be text.

    Attributes:
        commas: how many each line has that was read since the list was cleared.
    """

    def __init__(self, path: Location, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._number = 0
        self.commas: list[int] = []

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_LINE_CHARACTERS):
            self._number += 1
            if len(line) == MAX_LINE_CHARACTERS:
                raise ManifestError(
                    f"{self._path}: line {self._number} has {MAX_LINE_CHARACTERS} characters or more; it must be CSV "
                    "with one song a line"
                )
            if found := _NO_TEXT.search(line):
                what = "a NUL character" if found[0] == "\0" else "bytes that are not UTF-8"
                raise ManifestError(
                    f"{self._path}: cannot be read as CSV: line {self._number} has {what}; save it as UTF-8 text"
                )
            self.commas.append(line.count(","))
            yield line


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that a column is read as."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pa.string() if is_text else kind


def _decoded(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        # First the few values, as Arrow cannot cast every kind of dictionary.
        values = _decoded(column.dictionary)
        column = pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()
    return column.cast(_plain(column.type))
