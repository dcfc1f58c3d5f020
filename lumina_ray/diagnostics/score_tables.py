"""Tables of scores as files: what `lumina scores --out` writes, read as a matrix for each channel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumina_ray.errors import UsageError
from lumina_ray.files import open_file
from lumina_ray.methods.table import METHOD_KEY, SONGS_KEY
from lumina_ray.storage import AnyPath, Location, RemotePath, locate

MAX_ROWS = 50_000_000
"""The most scores in a table, all channels together."""
MAX_BYTES = 4 << 30
"""The most that a table may take in memory."""
_IDS = ("query_id", "song_id", "channel")
_NAMED = 3


@dataclass(frozen=True)
class ScoreMatrix:
    """Raw scores of a catalog for some queries.

    Attributes:
        channel: "P" or "M"; "" where the table has no channels.
        query_ids: in ascending order.
        song_ids: in ascending order.
        song_R: int, the place among `song_ids` of the song that each row belongs to; songs may have several segments.
        scores_RQ: float64, finite.
        method: name of the method that made them; "" where the table does not say.
    """

    channel: str
    query_ids: tuple[str, ...]
    song_ids: tuple[str, ...]
    song_R: np.ndarray
    scores_RQ: np.ndarray
    method: str


def read_scores(path: AnyPath) -> list[ScoreMatrix]:
    """Read a table of scores: Parquet with `query_id`, `song_id`, `score`, and if need be `channel` and `segment`.

    The order of rows does not matter.

    Args:
        path: such as `lumina scores METHOD … --top 1000000 --out FILE` writes. With a column `segment`, a whole number,
            songs may have several scores for a query.

    Returns:
        One matrix for each channel, "P" first.

    Raises:
        UsageError: the file is no such table or too large, a score is missing, there twice or no finite number, or the
            table holds only the best songs of each query.
        StorageError: its bucket does not answer.
    """
    path = locate(path)
    table, metadata = _read(path)
    method = metadata.get(METHOD_KEY, b"").decode(errors="replace")
    n_songs = metadata.get(SONGS_KEY, b"")
    channels = (
        sorted(set(table["channel"].unique().to_pylist()), reverse=True) if "channel" in table.column_names else [""]
    )
    matrices = []
    for channel in channels:
        of_channel = table.filter(pc.equal(table["channel"], channel)) if channel else table
        matrices.append(_matrix(path, of_channel, channel, method, int(n_songs) if n_songs.isdigit() else 0))
    return matrices


def _read(path: Location) -> tuple[pa.Table, dict[bytes, bytes]]:
    try:
        source = pa.BufferReader(path.read_bytes()) if isinstance(path, RemotePath) else pa.PythonFile(open_file(path))
        footer = pq.read_metadata(source)
        schema = footer.schema.to_arrow_schema()
        if missing := [name for name in ("query_id", "song_id", "score") if name not in schema.names]:
            raise UsageError(
                f"{path}: lacks the column {missing[0]!r}; a table of scores is what `lumina scores --out` writes"
            )
        if footer.num_rows > MAX_ROWS:
            raise UsageError(f"{path}: {footer.num_rows} scores, the limit is {MAX_ROWS}; take fewer queries")
        if not footer.num_rows:
            raise UsageError(f"{path}: holds no scores")
        # Ids occur again and again: of each, one text is kept.
        texts = [name for name in _IDS if name in schema.names and _is_text(schema.field(name).type)]
        wanted = [name for name in (*_IDS, "segment", "score") if name in schema.names]
        batches, n_bytes = [], 0
        for batch in pq.ParquetFile(source, metadata=footer, read_dictionary=texts).iter_batches(columns=wanted):
            batches.append(batch)
            n_bytes += batch.nbytes
            if n_bytes > MAX_BYTES:
                raise UsageError(f"{path}: takes more than {MAX_BYTES} bytes in memory; take fewer queries")
        return pa.Table.from_batches(batches), schema.metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(
            f"{path}: cannot be read as a Parquet table of scores ({error}); `lumina scores --out` writes one"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _matrix(path: Location, table: pa.Table, channel: str, method: str, n_songs: int) -> ScoreMatrix:
    query_ids, query_n = _codes(path, table, "query_id")
    song_ids, song_n = _codes(path, table, "song_id")
    where = f"{path}" + (f", channel {channel}" if channel else "")
    score_n = _numbers(path, table, "score")
    if not np.isfinite(score_n).all():
        bad = int(np.flatnonzero(~np.isfinite(score_n))[0])
        raise UsageError(
            f"{where}: the score of song {song_ids[song_n[bad]]!r} for query {query_ids[query_n[bad]]!r} is "
            f"{score_n[bad]}; score again, or leave the song out"
        )
    key_n = song_n
    if "segment" in table.column_names:
        segments, place_n = np.unique(_numbers(path, table, "segment"), return_inverse=True)
        if not np.isfinite(segments).all():
            raise UsageError(f"{where}: a segment is missing or no finite number; number each song's segments")
        key_n = song_n * len(segments) + place_n
    keys, first_n, row_n = np.unique(key_n, return_index=True, return_inverse=True)
    songs_R, R, Q = song_n[first_n], len(keys), len(query_ids)
    # Before anything of R × Q numbers is made: a table may name a new song and query in every row.
    if len(song_n) < R * Q or n_songs > len(song_ids):
        counts_Q = np.bincount(query_n)
        query = int(counts_Q.argmin())
        raise UsageError(
            f"{where}: query {query_ids[query]!r} has scores for {counts_Q[query]} of {max(R, n_songs)} songs or "
            f"segments; a diagnosis needs all of them: run `lumina scores` with --top {max(len(song_ids), n_songs)}"
        )
    counts_RQ = np.bincount(row_n * Q + query_n, minlength=R * Q).reshape(R, Q)
    if (counts_RQ > 1).any():
        row, query = np.argwhere(counts_RQ > 1)[0]
        raise UsageError(
            f"{where}: song {song_ids[songs_R[row]]!r} has {counts_RQ[row, query]} scores for query "
            f"{query_ids[query]!r}; keep one, or number its segments in a column `segment`"
        )
    # As many scores as there are places, none of them twice: every place has its score.
    scores_RQ = np.empty((R, Q))
    scores_RQ[row_n, query_n] = score_n
    return ScoreMatrix(channel, tuple(query_ids), tuple(song_ids), songs_R, scores_RQ, method)


def _codes(path: Location, table: pa.Table, name: str) -> tuple[list[str], np.ndarray]:
    """Distinct ids in ascending order, and the place among them of each row's."""
    column = table[name]
    if column.null_count:
        raise UsageError(f"{path}: {name} is missing in {column.null_count} rows; every score needs one")
    try:
        encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    except pa.ArrowException as error:
        raise UsageError(f"{path}: {name} is no text ({error}); write ids as text") from error
    ids = encoded.dictionary.to_pylist()
    order = sorted(range(len(ids)), key=ids.__getitem__)
    places = np.empty(len(ids), np.int64)
    places[order] = np.arange(len(ids))
    return [ids[i] for i in order], places[encoded.indices.to_numpy()]


def _numbers(path: Location, table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers, float64; what is missing is NaN."""
    try:
        return table[name].cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise UsageError(f"{path}: {name} holds what is no number ({error}); correct it") from error


def missing(wanted: Sequence[str], there: Sequence[str]) -> str:
    """Name the first of the ids that are not there, for an error; "" where all are."""
    known = set(there)
    lacking = [one for one in wanted if one not in known]
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    return ", ".join(map(repr, lacking[:_NAMED])) + more
