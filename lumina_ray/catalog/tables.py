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
from lumina_ray.files import atomic_path, open_file
from lumina_ray.storage import Location, RemotePath

MAX_SONGS = 10_000_000
MAX_COLUMNS = 1000
MAX_BYTES = 4 << 30
"""The most that a manifest may take in memory, uncompressed."""
MAX_LINE_CHARACTERS = 1 << 22
MAX_VALUE_CHARACTERS = 131_072
"""The limit of Python's csv module, which belongs to the whole process."""

_PARQUET_ROWS_AT_ONCE = 1024
_CSV_ROWS_AT_ONCE = 16_384
# Bytes that are no UTF-8 are decoded to these surrogates.
_NO_TEXT = re.compile("[\0\udc80-\udcff]")
# A spreadsheet runs a text that begins so, also after spaces; full-width characters count as plain ones. An apostrophe
# in front makes it text. A text that has one of its own gets another, so that reading takes off what writing put on.
_FORMULA = r"'*(?:[\t\r]|[\s\"]*[=+\-@＝＋－＠])"
# A header, and a row, in which all text is in quotes, as `write_csv` writes them; numbers need none. No quote can be
# missing there unnoticed: the next one would close the value before a letter.
_TEXT = r'"(?:[^"]++|"")*+"'
_CELL = rf"(?:{_TEXT}|-?inf|nan|[0-9.eE+-]*+)"
_QUOTED_HEADER = re.compile(rf"{_TEXT}(?:,{_TEXT})*+[\r\n]*")
_QUOTED_ROW = re.compile(rf"{_CELL}(?:,{_CELL})*+[\r\n]*")
# What spreadsheets and archivers call CSV.
_NO_CSV = {
    b"\x1f\x8b": "is compressed by gzip; unpack it",
    b"PK\x03\x04": "is a ZIP archive or a workbook; unpack it, or export it as CSV",
    b"PAR1": "is Parquet; name it .parquet",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}
_OTHER_SEPARATORS = ";\t|"


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
            _check_columns(path, len(file.schema_arrow))
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
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # A name of a column that is not UTF-8 is no error of Arrow's.
        raise ManifestError(f"{path}: cannot be read as Parquet ({error}); write it again") from error
    if len(table) != n_songs:
        raise ManifestError(f"{path}: its footer says {n_songs} rows, {len(table)} are there; write it again")
    return table


def write_csv(table: pa.Table, path: Location) -> None:
    """Write a CSV file that `read_csv` reads back, and in which a spreadsheet takes no text for a formula."""
    columns = [
        column if is_number(column.type) else _guarded(column.cast(pa.string()))  # the text is then in quotes
        for column in table.columns
    ]
    with atomic_path(path) as temporary:
        pacsv.write_csv(pa.table(columns, _guarded(pa.array(table.column_names, pa.string())).to_pylist()), temporary)


def write_parquet(table: pa.Table, path: Location) -> None:
    """Write a Parquet file."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds integers, fractions or decimals."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _guarded(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.replace_substring_regex(texts, f"^({_FORMULA})", r"'\1")


def _unguarded(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, f"^'({_FORMULA})", r"\1")


def _open_text(path: Location) -> TextIO:
    source = io.BytesIO(path.read_bytes()) if isinstance(path, RemotePath) else io.BufferedReader(open_file(path))
    begin = source.read(4)
    source.seek(0)
    if wrong := next((what for signature, what in _NO_CSV.items() if begin.startswith(signature)), None):
        source.close()
        raise ManifestError(f"{path}: cannot be read as CSV: it {wrong}")
    # With newline="" lines end at \n, \r\n or \r, and keep their ends, as the csv module asks for.
    return io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _table(path: Location, file: TextIO) -> pa.Table:
    records = _records(path, file)
    _, names = next(records, (1, None))
    if not names:
        raise ManifestError(f"{path}: cannot be read as CSV: it has no header row")
    _check_header(path, names)
    schema = pa.schema([(name, pa.string()) for name in _unguarded(pa.array(names, pa.string())).to_pylist()])
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


def _check_header(path: Location, names: list[str]) -> None:
    _check_columns(path, len(names))
    found = next((one for one in _OTHER_SEPARATORS if len(names) == 1 and one in names[0]), None)
    if found or names[0].lower().startswith("sep="):
        what = f"has columns separated by {found!r}" if found else f"begins with the line {names[0]!r}"
        raise ManifestError(f"{path}: {what}; export it with commas, and the header in its first line")


def _check_columns(path: Location, n_columns: int) -> None:
    if n_columns > MAX_COLUMNS:
        raise ManifestError(f"{path}: {n_columns} columns, the limit is {MAX_COLUMNS}; keep those that are needed")


def _batch(rows: list[list[str]], schema: pa.Schema) -> pa.RecordBatch:
    columns = (
        _unguarded(pa.array([value or None for value in values], pa.string())) for values in zip(*rows, strict=True)
    )
    return pa.RecordBatch.from_arrays(list(columns), schema=schema)


def _records(path: Location, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The records of a file, each with the number of its first line. Blank lines are none."""
    lines = _Lines(path, file)
    reader = csv.reader(lines, strict=True)
    n_columns, quoted, first = 0, False, 1
    try:
        for record in reader:
            if not n_columns:
                n_columns, quoted = len(record), bool(_QUOTED_HEADER.fullmatch("".join(lines.read)))
            if inside := _looks_like_a_row(lines.read, n_columns, quoted):
                raise ManifestError(
                    f"{path}: line {first + inside} is inside quotes that were opened in line {first} or after it, and "
                    "looks like a row; close the quotes, write the value in one line, or put all text in quotes, the "
                    "header too"
                )
            if record:
                yield first, record
            first = reader.line_num + 1
            lines.read.clear()
    except csv.Error as error:
        raise ManifestError(
            f"{path}: cannot be read as CSV ({error}, in the row of line {first}); close its quotes, double those "
            f"inside a value, and shorten what has more than {MAX_VALUE_CHARACTERS} characters"
        ) from error


def _looks_like_a_row(lines: list[str], n_columns: int, quoted: bool) -> int | None:
    """Which of a record's further lines looks like a row that an open quote has taken in, if any does.

    An open quote takes in what follows up to the next quote: rows, which have a comma less than columns. The lines of a
    text that somebody meant to have several have fewer, or all text of the file is in quotes.
    """
    found = (number for number, line in enumerate(lines[1:], start=1) if line.count(",") >= n_columns - 1 > 0)
    number = next(found, None)
    return None if number is None or (quoted and _QUOTED_ROW.fullmatch("".join(lines))) else number


class _Lines:
    """Lines of text, checked to be text.

    Attributes:
        read: those that were read since the list was cleared.
    """

    def __init__(self, path: Location, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._number = 0
        self.read: list[str] = []

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
            self.read.append(line)
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
