"""Reading a living catalog: the stores that it consists of, put together without the songs that it leaves out."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.errors import StoreError
from lumina_ray.storage import AnyPath, Location, local, locate
from lumina_ray.store.generations import SEGMENTS_FOLDER, Generation, is_living, read_generation
from lumina_ray.store.purged import purged_songs, read_purges
from lumina_ray.store.read import Store, read_rows, read_store, sort_rows
from lumina_ray.store.run import read_run


@dataclass(frozen=True)
class Segment:
    """A finished store that a catalog consists of, or a single store by itself.

    Attributes:
        removed: ids of its songs that the catalog leaves out.
    """

    folder: Location
    removed: frozenset[str]

    def present(self, rows: pa.Table) -> pa.Table:
        """The rows of a table that the catalog does not leave out."""
        return without(rows, self.removed)


def open_store(path: AnyPath) -> Store:
    """Read a finished store, or a living catalog as it is now, into memory.

    Raises:
        StoreError: neither of the two, or damaged.
        UsageError: an address that is none.
    """
    place = locate(path)
    return read_catalog(place) if isinstance(place, Path) and is_living(place) else read_store(place)


def read_catalog(catalog: AnyPath, number: int | None = None) -> Store:
    """Read the songs of a generation, by default the newest, as if they were one store.

    Raises:
        StoreError: no such generation, a damaged segment, or songs that were purged since.
    """
    catalog = local(catalog)
    generation = read_generation(catalog, number)
    segments = _segments(catalog, generation)
    stores = [read_store(segment.folder) for segment in segments]
    kept = [(s.present(store.songs), s.present(store.failed)) for s, store in zip(segments, stores, strict=True)]
    songs, failed = (sort_rows(pa.concat_tables(tables)) for tables in zip(*kept, strict=True))
    run = replace(stores[0].run, n_songs=len(songs) + len(failed))
    return Store(catalog, run, songs, failed, generation.number)


def current_segments(path: Location) -> tuple[tuple[Segment, ...], int | None]:
    """The segments of a living catalog as it is now and its generation; of a single store, itself and None.

    Raises:
        StoreError: a damaged generation, or songs that were purged since.
    """
    if not isinstance(path, Path) or not is_living(path):
        return (Segment(path, frozenset()),), None
    generation = read_generation(path)
    return _segments(path, generation), generation.number


def songs_of(catalog: Path, generation: Generation) -> dict[str, dict[str, str | None]]:
    """Segment → song id → `codes_sha256` of the songs that a generation holds."""
    songs = {}
    for segment in generation.segments:
        folder = catalog / SEGMENTS_FOLDER / segment
        rows = read_rows(folder, read_run(folder).specification, ["song_id", "codes_sha256"])
        codes = dict(zip(rows["song_id"].to_pylist(), rows["codes_sha256"].to_pylist(), strict=True))
        songs[segment] = {song: c for song, c in codes.items() if song not in generation.removed.get(segment, {})}
    return songs


def ids_of(songs: dict[str, dict[str, str | None]]) -> set[str]:
    """The song ids of all segments in what `songs_of` gives."""
    return {song for of_segment in songs.values() for song in of_segment}


def without(table: pa.Table, ids: Collection[str]) -> pa.Table:
    """The rows of songs that are not in a set, or not among a dictionary's keys."""
    if len(ids) > len(table):
        # A data file has a few songs. An Arrow array of all ids that were ever removed, for each file, costs more.
        return table.filter(pa.array([song not in ids for song in table["song_id"].to_pylist()], pa.bool_()))
    return table.filter(pc.invert(pc.is_in(table["song_id"], pa.array(list(ids), pa.string()))))


def _segments(catalog: Path, generation: Generation) -> tuple[Segment, ...]:
    _refuse_purged(catalog, generation)
    return tuple(
        Segment(catalog / SEGMENTS_FOLDER / name, frozenset(generation.removed.get(name, {})))
        for name in generation.segments
    )


def _refuse_purged(catalog: Path, generation: Generation) -> None:
    for segment, gone in purged_songs(read_purges(catalog)).items():
        if segment in generation.segments and (missing := gone - generation.removed.get(segment, {}).keys()):
            raise StoreError(
                f"generation {generation.number} of {catalog} held {len(missing)} song(s) purged since, such "
                f"as {sorted(missing)[:3]}; it cannot be had any more"
            )
