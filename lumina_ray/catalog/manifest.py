"""Manifests: Parquet or CSV tables with one song a row: its id, its file, and its owners.

`song_id` and `path` are required. Relative paths are relative to the manifest's folder. `METADATA_COLUMNS`, `caption`
(words for the music, which models are trained with), `duration_s` and `sha256` (hash of the file's bytes) are known and
optional. Other columns are kept as they are.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.catalog import tables
from lumina_ray.catalog.rights import normal_date, normal_isrc, normal_iswc, normal_splits
from lumina_ray.errors import ManifestError, UsageError
from lumina_ray.storage import AnyPath, Location, locate

METADATA_COLUMNS = (
    "title",
    "creator",
    "isrc",
    "iswc",
    "publisher",
    "master_owner",
    "splits",
    "registered",
    "licence",
    "source",
)
TYPED_COLUMNS: dict[str, pa.DataType] = {"caption": pa.string(), "duration_s": pa.float64(), "sha256": pa.string()}
"""Known optional columns besides the metadata, with their types. Stores do not take them over."""

_NORMAL: dict[str, Callable[[str], str]] = {
    "isrc": normal_isrc,
    "iswc": normal_iswc,
    "splits": normal_splits,
    "registered": normal_date,
}

MAX_ID_CHARACTERS = 512
MAX_PATH_CHARACTERS = 4096
MAX_METADATA_CHARACTERS = 65_536
MAX_CAPTION_CHARACTERS = 1024
MAX_LISTED_S = 1_000_000
"""The longest duration that a manifest may give a song: eleven days, which no recording has."""
# What is infinite or no number is told apart from what is not written as one.
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity|nan)$"
# A spreadsheet shows a long number so, and exports what it shows: the other digits are gone.
_SHORTENED = r"^\d(?:[.,]\d+)?E\+\d{2,}$"
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f]"
"""Regular expression of characters that are refused in ids and paths."""
_NAMED = 5
_SHOWN = 300


def read_manifest(path: AnyPath) -> pa.Table:
    """Read and check a manifest. Audio files that do not exist are no error here: they become failed rows later.

    Returns:
        song_id, path (absolute, or an address in a bucket) and `METADATA_COLUMNS`, all strings and in this order;
        metadata that the file lacks is null. Then the file's other columns in its own order, `duration_s` as float64,
        `caption` and `sha256` as string. Text that is empty is null.

    Raises:
        ManifestError: the file cannot be read, holds no song, or contradicts itself. Rows are counted from 1.
        UsageError: an address that is none.
        StorageError: its bucket does not answer.
    """
    path = locate(path)
    _check_file(path)
    table = tables.read_csv(path) if _format(path) == "csv" else tables.read_parquet_table(path)
    _check_columns(path, table)
    table = _with_nulls(table)
    if table.num_rows == 0:
        raise ManifestError(f"{path}: holds no songs; one row a song is needed")
    song_ids = _required_text(path, table, "song_id", MAX_ID_CHARACTERS)
    _check_not_shortened(path, song_ids)
    _check_unique(path, song_ids)
    paths = _required_text(path, table, "path", MAX_PATH_CHARACTERS)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "song_id": song_ids,
        "path": pa.array(_absolute(path, paths.to_pylist()), pa.string()),
    }
    for name in METADATA_COLUMNS:
        present = name in table.column_names
        columns[name] = _metadata(path, table, name) if present else pa.nulls(table.num_rows, pa.string())
    for name in table.column_names:
        if name == "duration_s":
            columns[name] = _durations(path, table)
        elif name == "sha256":
            columns[name] = _hashes(path, table)
        elif name == "caption":
            columns[name] = _metadata(path, table, name, MAX_CAPTION_CHARACTERS)
        elif name not in columns:
            columns[name] = _other(path, table, name)
    return pa.table(columns)


def manifest_of(rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Make a manifest with all known columns from one mapping a song; values that a song lacks are null."""
    schema = pa.schema(
        [(name, pa.string()) for name in ("song_id", "path", *METADATA_COLUMNS)] + list(TYPED_COLUMNS.items())
    )
    return pa.Table.from_pylist(list(rows), schema)


def write_manifest(table: pa.Table, path: AnyPath) -> None:
    """Write a manifest, in full or not at all, as Parquet or CSV, whichever the name's ending says.

    Raises:
        ManifestError: the name ends otherwise, or the file cannot be written.
        UsageError: an address that is none.
        StorageError: its bucket does not take it.
    """
    path = locate(path)
    write = tables.write_csv if _format(path) == "csv" else tables.write_parquet
    try:
        write(table, path)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written ({error}); choose another place") from error


def _format(path: Location) -> str:
    """The format that a name's ending stands for: "csv" or "parquet"."""
    ending = path.suffix.lower().lstrip(".")
    if ending not in ("csv", "parquet"):
        raise ManifestError(f"{path}: is no manifest by its name; it must end in .parquet or .csv")
    return ending


def _check_file(path: Location) -> None:
    try:
        if path.is_dir():
            raise ManifestError(f"{path}: is a folder; `lumina catalog scan {path} --out MANIFEST` makes its manifest")
        if not path.exists():
            raise ManifestError(f"{path}: no such file; check the path, or make one with `lumina catalog scan`")
        if not path.is_file():
            # Reading from a pipe could wait for ever.
            raise ManifestError(f"{path}: is a pipe, socket or device, not a file; write the manifest to a file first")
        _format(path)
        n_bytes = path.stat().st_size
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if n_bytes > tables.MAX_BYTES:
        raise ManifestError(f"{path}: {n_bytes} bytes, the limit is {tables.MAX_BYTES}; split the manifest")


def check_manifest_name(path: AnyPath) -> None:
    """Check that a manifest can have a name.

    Raises:
        ManifestError: it ends neither in .parquet nor in .csv.
        UsageError: an address that is none.
    """
    _format(locate(path))


def _check_columns(path: Location, table: pa.Table) -> None:
    names = table.column_names
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ManifestError(f"{path}: column {repeated[0]!r} is there more than once; rename or drop one")
    known = ("song_id", "path", *METADATA_COLUMNS, *TYPED_COLUMNS)
    for name in names:
        if "\0" in name:
            raise ManifestError(f"{path}: column {name!r} has a NUL character in its name; rename it")
        # Its values would be read by nobody, and compared with nothing.
        if name not in known and (meant := alike(name)) in known:
            raise ManifestError(f"{path}: column {name!r} is not known; rename it to {meant!r}, or drop it")
    for name in ("song_id", "path"):
        if name not in names:
            raise ManifestError(f"{path}: lacks the column {name!r}; it has {', '.join(names)[:_SHOWN] or 'none'}")


def _cast(path: Location, table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return table[name].cast(kind)
    except pa.ArrowException as error:
        raise ManifestError(f"{path}: column {name!r} is not {kind} ({error}); correct or drop it") from error


def _text(path: Location, table: pa.Table, name: str, max_characters: int) -> pa.ChunkedArray:
    """A column that must be text in the file: numbers that were meant as text have lost their leading zeros."""
    kind = table.schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_null(kind)):
        raise ManifestError(f"{path}: column {name!r} holds {kind}, text is needed; write it as strings")
    column = _cast(path, table, name, pa.string())
    if long := pc.indices_nonzero(pc.fill_null(pc.greater(pc.utf8_length(column), max_characters), False)).to_pylist():
        raise ManifestError(f"{path}: {name} has more than {max_characters} characters in {_rows(long)}; shorten it")
    return column


def _required_text(path: Location, table: pa.Table, name: str, max_characters: int) -> pa.ChunkedArray:
    """A text column without rows that are missing, blank, or hold control characters."""
    column = _text(path, table, name, max_characters)
    faults = (
        ("is missing", pc.is_null(column)),
        ("is blank", pc.equal(pc.utf8_trim_whitespace(column), "")),
        ("holds control characters", pc.match_substring_regex(column, CONTROL_CHARACTERS)),
    )
    for fault, mask in faults:
        rows = pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist()
        if rows:
            raise ManifestError(f"{path}: {name} {fault} in {_rows(rows)}; every song needs one")
    return column


def _metadata(
    path: Location, table: pa.Table, name: str, max_characters: int = MAX_METADATA_CHARACTERS
) -> pa.ChunkedArray:
    """A column of metadata; codes and splits are written in one way, whichever way the file has them."""
    column = _text(path, table, name, max_characters)
    _check_no_nul(path, name, column)
    if not (normal := _NORMAL.get(name)):
        return column
    # Many songs have the same splits.
    distinct, written = column.unique(), []
    for value in distinct.to_pylist():
        try:
            written.append(normal(value) if value and value.strip() else None)
        except ValueError as error:
            rows = pc.indices_nonzero(pc.fill_null(pc.equal(column, value), False)).to_pylist()
            raise ManifestError(
                f"{path}: {name} {value[:60]!r} in {_rows(rows)}: {error}; correct it or leave it out"
            ) from None
    return pa.array(written, pa.string()).take(pc.index_in(column, distinct))


def _other(path: Location, table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column that is carried along, in which text is bounded by what a CSV file takes."""
    if not pa.types.is_string(table.schema.field(name).type):
        return table[name]
    column = _text(path, table, name, tables.MAX_VALUE_CHARACTERS)
    _check_no_nul(path, name, column)
    return column


def _check_no_nul(path: Location, name: str, column: pa.ChunkedArray) -> None:
    if rows := pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(column, r"\x00"), False)).to_pylist():
        raise ManifestError(f"{path}: {name} holds a NUL character in {_rows(rows)}; write it without")


def _with_nulls(table: pa.Table) -> pa.Table:
    """Make empty text null, as CSV files cannot tell the two apart. Ids and paths may be neither."""
    columns = [
        pc.if_else(pc.equal(column, ""), None, column)
        if pa.types.is_string(column.type) and name not in ("song_id", "path")
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(columns, table.column_names)


def _durations(path: Location, table: pa.Table) -> pa.ChunkedArray:
    given = table["duration_s"]
    if pa.types.is_string(given.type):
        given = pc.utf8_trim_whitespace(given)
        given = pc.if_else(pc.equal(given, ""), None, given)
        wrong = pc.invert(pc.match_substring_regex(given, _NUMBER))
        if rows := pc.indices_nonzero(pc.fill_null(wrong, False)).to_pylist():
            raise ManifestError(
                f"{path}: duration_s is {given[rows[0]].as_py()!r} in {_rows(rows)}; it must be a number of seconds, "
                "such as 205.5, or empty where it is not known"
            )
        table = table.set_column(table.column_names.index("duration_s"), "duration_s", given)
    elif not (tables.is_number(given.type) or pa.types.is_null(given.type)):
        raise ManifestError(f"{path}: column 'duration_s' holds {given.type}; write it as a number of seconds")
    column = _cast(path, table, "duration_s", pa.float64())
    # NaN is not within any bounds.
    possible = pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, MAX_LISTED_S))
    if rows := pc.indices_nonzero(pc.fill_null(pc.invert(possible), False)).to_pylist():
        raise ManifestError(
            f"{path}: duration_s is {column[rows[0]].as_py()} in {_rows(rows)}; it must be a number of seconds from 0 "
            f"to {MAX_LISTED_S}, or empty where it is not known"
        )
    return column


def _hashes(path: Location, table: pa.Table) -> pa.ChunkedArray:
    column = pc.ascii_lower(pc.utf8_trim_whitespace(_text(path, table, "sha256", MAX_METADATA_CHARACTERS)))
    wrong = pc.invert(pc.match_substring_regex(column, "^[0-9a-f]{64}$"))
    if rows := pc.indices_nonzero(pc.fill_null(wrong, False)).to_pylist():
        raise ManifestError(
            f"{path}: sha256 has not 64 hexadecimal digits in {_rows(rows)}; `sha256sum FILE` prints it"
        )
    return column


def _check_not_shortened(path: Location, song_ids: pa.ChunkedArray) -> None:
    if rows := pc.indices_nonzero(pc.match_substring_regex(song_ids, _SHORTENED)).to_pylist():
        raise ManifestError(
            f"{path}: song_id {song_ids[rows[0]].as_py()!r} in {_rows(rows)} is a number that a spreadsheet has "
            "shortened; format the column as text there, and export it again from the source"
        )


def _check_unique(path: Location, song_ids: pa.ChunkedArray) -> None:
    """Check that ids can be seen, and no two are equal or look it: nobody could tell which of them an answer means."""
    keys = pa.array([alike(song_id) for song_id in song_ids.to_pylist()], pa.string())
    if rows := pc.indices_nonzero(pc.equal(keys, "")).to_pylist():
        raise ManifestError(f"{path}: song_id has nothing to be seen in {_rows(rows)}; every song needs one")
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(repeated):
        return
    rows = pc.indices_nonzero(pc.equal(keys, repeated[0])).to_pylist()
    ids = [song_ids[row].as_py() for row in rows[:_NAMED]]
    if len(set(ids)) == 1:
        raise ManifestError(f"{path}: song_id {ids[0]!r} is there more than once, in {_rows(rows)}; ids must be unique")
    named = ", ".join(f"{song_id!r} in row {row + 1}" for song_id, row in zip(ids, rows, strict=False))
    raise ManifestError(
        f"{path}: song_ids that differ in nothing but white space, case or Unicode form: {named}; ids must be unique "
        "for people, too"
    )


def alike(song_id: str) -> str:
    """A key that is equal for ids which differ only in white space, case, Unicode form or invisible characters."""
    if not song_id.isascii():
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", song_id).casefold())
        song_id = "".join(character for character in folded if unicodedata.category(character) != "Cf")
    return "".join(song_id.casefold().split())


def _rows(rows: Sequence[int]) -> str:
    """The first few row numbers, counted from 1, for people."""
    numbers = ", ".join(str(row + 1) for row in rows[:_NAMED])
    rest = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {numbers}{rest}"


def _absolute(path: Location, songs: list[str]) -> list[str]:
    # `resolve` would follow links, and name files that the manifest does not name.
    base = path.parent.absolute()
    try:
        places = [locate(song) for song in songs]
    except UsageError as error:
        raise ManifestError(f"{path}: {error}") from error
    return [str(place if place.is_absolute() else base / str(place)) for place in places]
