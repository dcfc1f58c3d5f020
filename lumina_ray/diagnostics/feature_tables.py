"""Tables of musical features as files, one row a song, and genres of queries.

A column's name says what it is: `ASPECT.FEATURE.NUMBER` is one dimension of a vector, such as `timbre.mfcc.0`;
`ASPECT.FEATURE` is a number, or in Parquet a list of numbers, such as `harmony.chroma`; `ASPECT.FEATURE.roots` is a
list of chord roots, 0 to 11, or a text of them with spaces between.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lumina_ray.catalog import tables
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.diagnostics.features import Feature, RootsFeature, VectorFeature
from lumina_ray.diagnostics.score_tables import missing
from lumina_ray.errors import UsageError
from lumina_ray.storage import AnyPath, Location, locate

MAX_ROOTS = 10_000
"""The most chords of a song; comparing two songs takes time in proportion to the product."""
_NAME = re.compile(r"(?P<aspect>[^.]+)\.(?P<feature>[^.]+)(?:\.(?P<part>\d{1,6}|roots))?")
_NAMED = 5


@dataclass(frozen=True)
class FeatureTable:
    """Features of the songs that have scores, in their order.

    Attributes:
        features: of all aspects, in the order of the file's columns.
        notes: sentences on what was left out.
    """

    features: tuple[Feature, ...]
    notes: tuple[str, ...]

    @property
    def aspects(self) -> dict[str, list[Feature]]:
        """Features by musical aspect."""
        out: dict[str, list[Feature]] = {}
        for feature in self.features:
            out.setdefault(feature.aspect, []).append(feature)
        return out


def read_features(path: AnyPath, song_ids: Sequence[str]) -> FeatureTable:
    """Read the features of some songs from a .parquet or .csv file.

    Songs of the file that have no scores are left out, and so are dimensions that are equal for all songs, and columns
    that are no features; notes say which.

    Args:
        song_ids: songs that have scores; the features come in this order.

    Raises:
        UsageError: the file cannot be used, is of another catalog, lacks a song or a value, or has a feature that is
            equal for all songs.
        ManifestError: the file is damaged or too large.
        StorageError: its bucket does not answer.
    """
    path = locate(path)
    table = _read(path)
    ids = table["song_id"].to_pylist()
    song, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{path}: song {song!r} has {count} rows; keep one")
    if not set(ids) & set(song_ids):
        raise UsageError(
            f"{path}: features of another catalog: none of its {len(ids)} songs (such as {ids[0]!r}) is among the "
            f"{len(song_ids)} songs that have scores (such as {song_ids[0]!r})"
        )
    if lacking := missing(song_ids, ids):
        raise UsageError(f"{path}: has no features of songs that have scores: {lacking}; add their rows")
    place = {one: i for i, one in enumerate(ids)}
    notes = []
    if len(ids) > len(song_ids):
        notes.append(f"{len(ids) - len(song_ids)} songs of {path} have no scores and are left out.")
    table = table.take(pa.array([place[one] for one in song_ids], pa.int64()))
    found, other = _grouped(table.column_names)
    if other:
        shown = ", ".join(other[:_NAMED]) + (f" and {len(other) - _NAMED} more" if len(other) > _NAMED else "")
        notes.append(f"Columns of {path} that are no features by their names, and are left out: {shown}.")
    if not found:
        raise UsageError(
            f"{path}: has no features: its columns need names such as timbre.mfcc.0, harmony.chroma or "
            "harmony.chords.roots"
        )
    features: list[Feature] = []
    for (aspect, name, is_roots), columns in found.items():
        if is_roots:
            roots = tuple(
                _roots(path, song, columns[0], value)
                for song, value in zip(song_ids, table[columns[0]].to_pylist(), strict=True)
            )
            features.append(RootsFeature(aspect, name, roots))
            continue
        values_ND = np.concatenate([_vector(path, table, column, song_ids) for column in columns], axis=1)
        varies_D = np.ptp(values_ND, axis=0) > 0
        if not varies_D.any():
            raise UsageError(
                f"{path}: feature {aspect}.{name} is the same for all songs: it tells nothing; leave its columns out"
            )
        if not varies_D.all():
            notes.append(
                f"{int((~varies_D).sum())} of {len(varies_D)} dimensions of {aspect}.{name} are the same for all "
                "songs, and are left out."
            )
        features.append(VectorFeature(aspect, name, values_ND[:, varies_D]))
    return FeatureTable(tuple(features), tuple(notes))


def read_genres(path: AnyPath, query_ids: Sequence[str]) -> list[str]:
    """Read the genre of each query from the column `genre` of the queries' manifest; "" where there is none.

    Raises:
        UsageError: the manifest has no such column, or no genre of any of the queries.
        ManifestError, StorageError: see `read_manifest`.
    """
    table = read_manifest(path)
    if "genre" not in table.column_names:
        raise UsageError(f"{path}: has no column `genre`; add it to the queries' manifest")
    genres: Mapping[str, object] = dict(zip(table["song_id"].to_pylist(), table["genre"].to_pylist(), strict=True))
    found = ["" if genres.get(query) is None else str(genres[query]) for query in query_ids]
    if not any(found):
        raise UsageError(
            f"{path}: has no genre of any query (such as {query_ids[0]!r}); give the manifest that the queries were "
            "fingerprinted from"
        )
    return found


def _read(path: Location) -> pa.Table:
    ending = path.suffix.lower()
    if ending not in (".parquet", ".csv"):
        raise UsageError(f"{path}: is no table of features by its name; it must end in .parquet or .csv")
    if not path.is_file():
        # Reading from a pipe could wait for ever.
        raise UsageError(f"{path}: no such file; a table of features has one row a song")
    table = tables.read_csv(path) if ending == ".csv" else tables.read_parquet_table(path)
    names = table.column_names
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{path}: column {repeated!r} is there more than once; rename or drop one")
    if "song_id" not in names or not len(table):
        raise UsageError(f"{path}: a table of features has a column `song_id`, and one row a song")
    if not pa.types.is_string(table.schema.field("song_id").type) or table["song_id"].null_count:
        raise UsageError(f"{path}: every row needs a song_id, which is text")
    return table


def _grouped(names: Sequence[str]) -> tuple[dict[tuple[str, str, bool], list[str]], list[str]]:
    """Columns by aspect, feature and whether they are roots, dimensions in their order; and all other columns."""
    found: dict[tuple[str, str, bool], list[tuple[int, str]]] = {}
    other = []
    for name in names:
        if match := _NAME.fullmatch(name):
            part = match["part"]
            key = (match["aspect"], match["feature"], part == "roots")
            found.setdefault(key, []).append((int(part) if part and part != "roots" else -1, name))
        elif name != "song_id":
            other.append(name)
    return {key: [name for _, name in sorted(columns)] for key, columns in found.items()}, other


def _vector(path: Location, table: pa.Table, column: str, song_ids: Sequence[str]) -> np.ndarray:
    """A column of numbers, or of lists of equal length: float64 `[N, D]`."""
    values = table[column].combine_chunks()
    D = 1
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        lists = values.to_pylist()
        D = len(lists[0]) if lists[0] is not None else 0
        for song, one in zip(song_ids, lists, strict=True):
            if one is None or len(one) != D or not D:
                raise UsageError(
                    f"{path}: {column} of song {song!r} has {len(one or ())} numbers, and that of {song_ids[0]!r} "
                    f"{D}; every song needs as many, at least one"
                )
        values = pa.array([number for one in lists for number in one])
    try:
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False).reshape(len(song_ids), D)
    except pa.ArrowException as error:
        raise UsageError(f"{path}: {column} holds what is no number ({error}); correct or drop the column") from error
    if not np.isfinite(numbers).all():
        row = int(np.argwhere(~np.isfinite(numbers))[0, 0])
        raise UsageError(
            f"{path}: {column} of song {song_ids[row]!r} is missing or no finite number; compute it again, or leave "
            "the song out of the scores too"
        )
    return numbers


def _roots(path: Location, song: str, column: str, value: object) -> tuple[int, ...]:
    """Chord roots of a song, from a list of them or a text; a song without chords has an empty list, or no text."""
    match value:
        case None:
            parts: Sequence[Any] = ()
        case str():
            parts = value.split()
        case list():
            parts = value
        case _:
            parts = (value,)
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        numbers = [-1.0]
    if len(numbers) > MAX_ROOTS or not all(number.is_integer() and 0 <= number <= 11 for number in numbers):
        raise UsageError(
            f"{path}: {column} of song {song!r} is no list of pitch classes 0 to 11, {MAX_ROOTS} at most, with spaces "
            "between; correct it"
        )
    return tuple(map(int, numbers))
