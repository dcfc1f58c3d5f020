"""Manifests: a Parquet or CSV table, one song a row, that says where each song lies and whose it is.

`song_id` and `path` are required. Relative paths are relative to the manifest's folder. `METADATA_COLUMNS`,
`duration_s` and `sha256` (of the file's bytes) are known and optional; other columns are carried along.
"""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from lumina_ray.catalog.files import atomic_path
from lumina_ray.errors import ManifestError, UsageError
from lumina_ray.storage import Location, RemotePath, locate

METADATA_COLUMNS = (
    "title",
    "creator",
    "isrc",
    "iswc",
    "publisher",
    "master_owner",
    "splits",
    "licence",
    "source",
)
TYPED_COLUMNS: dict[str, pa.DataType] = {"duration_s": pa.float64(), "sha256": pa.string()}
"""Known optional columns besides the metadata; present in a manifest or not."""

MAX_SONGS = 10_000_000
MAX_BYTES = 4 << 30
"""Of the table when read, uncompressed."""
MAX_ID_CHARACTERS = 512
MAX_PATH_CHARACTERS = 4096
MAX_METADATA_CHARACTERS = 65_536
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f]"
"""In no id and no path, as a regular expression."""

_ROWS_AT_ONCE = 1024


def read_manifest(path: Location) -> pa.Table:
    """Reads and checks a manifest. Audio files that do not exist are no error here: they become failed rows later.

    Returns:
        song_id, path (absolute, or an address in a bucket) and `METADATA_COLUMNS`, all strings and in this order,
        metadata that the file lacks being null; then the file's other columns in its own order, `duration_s` as
        float64 and `sha256` as string.
    Raises:
        ManifestError: the file cannot be read, holds no song, or contradicts itself. Rows are counted from 1.
        StorageError: its bucket does not answer.
    """
    _check_file(path)
    table = _read_csv(path) if _format(path) == "csv" else _read_parquet(path)
    _check_columns(path, table)
    if table.num_rows == 0:
        raise ManifestError(f"{path}: holds no songs; one row a song is needed")
    if table.num_rows > MAX_SONGS:
        raise ManifestError(f"{path}: {table.num_rows} songs, the limit is {MAX_SONGS}; split the manifest")
    song_ids = _required_text(path, table, "song_id", MAX_ID_CHARACTERS)
    _check_unique(path, song_ids)
    paths = _required_text(path, table, "path", MAX_PATH_CHARACTERS)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "song_id": song_ids,
        "path": pa.array(_absolute(path, paths.to_pylist()), pa.string()),
    }
    for name in METADATA_COLUMNS:
        present = name in table.column_names
        columns[name] = (
            _text(path, table, name, MAX_METADATA_CHARACTERS) if present else pa.nulls(table.num_rows, pa.string())
        )
    for name in table.column_names:
        if name in TYPED_COLUMNS:
            columns[name] = _cast(path, table, name, TYPED_COLUMNS[name])
        elif name not in columns:
            columns[name] = table[name]
    return pa.table(columns)


def manifest_of(rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """A manifest with all known columns from one mapping a song; what a song lacks is null."""
    schema = pa.schema(
        [(name, pa.string()) for name in ("song_id", "path", *METADATA_COLUMNS)] + list(TYPED_COLUMNS.items())
    )
    return pa.Table.from_pylist(list(rows), schema)


def write_manifest(table: pa.Table, path: Location) -> None:
    """Writes a manifest, in full or not at all, as Parquet or CSV after the name's ending.

    Raises:
        ManifestError: the name ends otherwise, or the file cannot be written.
        StorageError: its bucket does not take it.
    """
    write = pacsv.write_csv if _format(path) == "csv" else pq.write_table
    try:
        with atomic_path(path) as temporary:
            write(table, temporary)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written ({error}); choose another place") from error


def _format(path: Location) -> str:
    """ "csv" or "parquet"."""
    ending = path.suffix.lower().lstrip(".")
    if ending not in ("csv", "parquet"):
        raise ManifestError(f"{path}: is no manifest by its name; it must end in .parquet or .csv")
    return ending


def _check_file(path: Location) -> None:
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder; `lumina catalog scan {path} --out MANIFEST` makes its manifest")
    if not path.exists():
        raise ManifestError(f"{path}: no such file; check the path, or make one with `lumina catalog scan`")
    _format(path)
    n_bytes = path.stat().st_size
    if n_bytes > MAX_BYTES:
        raise ManifestError(f"{path}: {n_bytes} bytes, the limit is {MAX_BYTES}; split the manifest")


def _source(path: Location) -> str | pa.Buffer:
    """What pyarrow's readers take. From a bucket it comes whole: so no reader takes its silence for damage."""
    return pa.py_buffer(path.read_bytes()) if isinstance(path, RemotePath) else str(path)


def _read_parquet(path: Location) -> pa.Table:
    source = _source(path)
    try:
        with pq.ParquetFile(source) as file:
            n_songs, n_bytes, batches = file.metadata.num_rows, 0, []
            # In pieces, as a small file may unpack to any size, and its footer need not tell: it counts a title that a
            # dictionary has once as one, however many songs have it.
            plain = pa.schema([_without_dictionary(field) for field in file.schema_arrow])
            for batch in file.iter_batches(_ROWS_AT_ONCE) if n_songs <= MAX_SONGS else ():
                batches.append(batch.cast(plain))
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
    return table


def _without_dictionary(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _read_csv(path: Location) -> pa.Table:
    """Every column as text: an id such as 00123 must not become a number."""
    source = _source(path)
    try:
        with pacsv.open_csv(source) as reader:
            names = reader.schema.names
        return pacsv.read_csv(
            source,
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""]
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(
            f"{path}: cannot be read as CSV ({error}); it must be UTF-8, comma-separated, with a header row"
        ) from error


def _check_columns(path: Location, table: pa.Table) -> None:
    names = table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ManifestError(f"{path}: column {repeated[0]!r} is there more than once; rename or drop one")
    for name in ("song_id", "path"):
        if name not in names:
            raise ManifestError(f"{path}: lacks the column {name!r}; it has {', '.join(names) or 'none'}")


def _cast(path: Location, table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return table[name].cast(kind)
    except pa.ArrowException as error:
        raise ManifestError(f"{path}: column {name!r} is not {kind} ({error}); correct or drop it") from error


def _text(path: Location, table: pa.Table, name: str, max_characters: int) -> pa.ChunkedArray:
    """A column that must be text already: numbers that were meant as text have lost their leading zeros."""
    kind = table.schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise ManifestError(f"{path}: column {name!r} holds {kind}, text is needed; write it as strings")
    column = _cast(path, table, name, pa.string())
    if long := pc.indices_nonzero(pc.fill_null(pc.greater(pc.utf8_length(column), max_characters), False)).to_pylist():
        raise ManifestError(f"{path}: {name} has more than {max_characters} characters in {_rows(long)}; shorten it")
    return column


def _required_text(path: Location, table: pa.Table, name: str, max_characters: int) -> pa.ChunkedArray:
    """A text column in which every row holds something that can be an id or a path."""
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


def _check_unique(path: Location, song_ids: pa.ChunkedArray) -> None:
    counts = pc.value_counts(song_ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(repeated):
        return
    examples = []
    for song_id in repeated[:3]:
        rows = pc.indices_nonzero(pc.equal(song_ids, song_id)).to_pylist()
        examples.append(f"{song_id.as_py()!r} in {_rows(rows)}")
    raise ManifestError(
        f"{path}: {len(repeated)} song_id(s) are there more than once: {', '.join(examples)}; ids must be unique"
    )


def _rows(rows: Sequence[int], shown: int = 5) -> str:
    """Row numbers counted from 1, the first few of them."""
    numbers = ", ".join(str(row + 1) for row in rows[:shown])
    rest = f" and {len(rows) - shown} more" if len(rows) > shown else ""
    return f"row{'s' if len(rows) > 1 else ''} {numbers}{rest}"


def _absolute(path: Location, songs: list[str]) -> list[str]:
    # Not `resolve`: it would follow links, and name files that the manifest does not.
    base = path.parent.absolute()
    try:
        places = [locate(song) for song in songs]
    except UsageError as error:
        raise ManifestError(f"{path}: {error}") from error
    return [str(place if place.is_absolute() else base / str(place)) for place in places]
