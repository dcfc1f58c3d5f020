"""A catalog that lives: stores put together and songs taken out, every state of it numbered and kept.

Layout of a living catalog:

    segments/0001/…         stores, one for each time that songs were added or replaced
    generations/0001.json   which segments a state of the catalog consists of, and which of their songs it leaves out
    purges/0001.json        what was deleted for good, and from which files
    indexes.json            index folders that were built from it, to be told of songs that are taken out
    indexes.lock            held by whoever tells them; left behind, and then without meaning
    calibration.json        written by `lumina calibrate`
    use.parquet             written by `lumina use`

A generation never changes; the newest is the catalog as it is. Each names the hash of the one before.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.catalog.files import TEMPORARY_SUFFIX
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.storage import Location
from lumina_ray.store.lock import exclusive
from lumina_ray.store.purged import now, numbered, purged_songs, read_purges
from lumina_ray.store.read import Store, read_finished_run, read_rows, read_store, sort_rows
from lumina_ray.store.run import read_run, write_json

GENERATIONS_FOLDER = "generations"
SEGMENTS_FOLDER = "segments"
INDEXES_FILE = "indexes.json"


@dataclass(frozen=True)
class Generation:
    """One state of a living catalog.

    Attributes:
        change: what made it, for people.
        segments: names of the stores that it consists of.
        removed: segment → song id → `codes_sha256` (null where the song had failed) of songs that are left out.
        parent_sha256: of the generation before. The first has a random one, so that no two catalogs begin alike.
    """

    number: int
    change: str
    segments: tuple[str, ...]
    removed: dict[str, dict[str, str | None]] = field(default_factory=dict)
    parent_sha256: str = ""
    created: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        return cls(**values | {"segments": tuple(values["segments"])})


@dataclass(frozen=True)
class Segment:
    """A finished store that a catalog consists of, or is.

    Attributes:
        removed: ids of its songs that the catalog leaves out.
    """

    folder: Location
    removed: frozenset[str]

    def present(self, rows: pa.Table) -> pa.Table:
        """The rows of a table that the catalog does not leave out."""
        return without(rows, self.removed)


def is_living(catalog: Path) -> bool:
    """Whether a folder is a living catalog, and not a single store."""
    return bool(numbered(Path(catalog) / GENERATIONS_FOLDER))


def read_generation(catalog: Path, number: int | None = None) -> Generation:
    """One generation, by default the newest.

    Raises:
        StoreError: there is none of that number, or it is damaged.
    """
    numbers = numbered(catalog / GENERATIONS_FOLDER)
    if not numbers:
        raise StoreError(f"{catalog} is no living catalog; `lumina catalog add {catalog} MANIFEST` begins one")
    wanted = numbers[-1] if number is None else number
    if wanted not in numbers:
        raise StoreError(f"{catalog} has no generation {wanted}; it has {numbers[0]} to {numbers[-1]}")
    path = catalog / GENERATIONS_FOLDER / f"{wanted:04}.json"
    try:
        return Generation.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def identity(catalog: Path) -> str:
    """What a living catalog is known by, wherever it lies: the hash of how it began. A copy has the same."""
    return read_generation(catalog, 1).sha256


def read_catalog(catalog: Path, number: int | None = None) -> Store:
    """The songs of a generation, by default the newest, as if they were one store.

    Raises:
        StoreError: no such generation, a damaged segment, or songs that were purged since.
    """
    generation = read_generation(catalog, number)
    segments = _segments(catalog, generation)
    stores = [read_store(segment.folder) for segment in segments]
    kept = [(s.present(store.songs), s.present(store.failed)) for s, store in zip(segments, stores, strict=True)]
    songs, failed = (sort_rows(pa.concat_tables(tables)) for tables in zip(*kept, strict=True))
    run = replace(stores[0].run, n_songs=len(songs) + len(failed))
    return Store(catalog, run, songs, failed, generation.number)


def open_store(path: Location) -> Store:
    """A finished store, or a living catalog as it is now.

    Raises:
        StoreError: neither of the two, or damaged.
    """
    return read_catalog(path) if isinstance(path, Path) and is_living(path) else read_store(path)


def current_segments(path: Location) -> tuple[tuple[Segment, ...], int | None]:
    """What a store (itself) or a living catalog as it is now consists of, and its generation, if it has any.

    Raises:
        StoreError: a damaged generation, or songs that were purged since.
    """
    if not isinstance(path, Path) or not is_living(path):
        return (Segment(path, frozenset()),), None
    generation = read_generation(path)
    return _segments(path, generation), generation.number


def next_segment(catalog: Path) -> Path:
    """Where songs that are to be added are fingerprinted; the same place until they are in a generation."""
    n_segments = len(read_generation(catalog).segments) if is_living(catalog) else 0
    return catalog / SEGMENTS_FOLDER / f"{n_segments + 1:04}"


def song_ids(catalog: Path) -> set[str]:
    """Ids of the newest generation, of failed songs too."""
    return ids_of(songs_of(catalog, read_generation(catalog))) if is_living(catalog) else set()


def check_addition(catalog: Path, wanted: list[str], *, replacing: bool) -> None:
    """Check that songs may be added to a catalog, or that they are there to be replaced.

    Raises:
        UsageError: some are there, or are not.
    """
    _check_addition(catalog, song_ids(catalog), wanted, replacing)


def _check_addition(catalog: Path, present: set[str], wanted: list[str], replacing: bool) -> None:
    wrong = sorted(set(wanted) - present) if replacing else sorted(set(wanted) & present)
    if wrong:
        listed = ", ".join(wrong[:3])
        if replacing:
            raise UsageError(f"{len(wrong)} songs are not in {catalog}, such as {listed}; `lumina catalog add` them")
        raise UsageError(
            f"{len(wrong)} songs are in {catalog} already, such as {listed}; `lumina catalog replace` exchanges them"
        )


def add_segment(catalog: Path, segment: Path, *, replacing: bool) -> Generation:
    """Make a finished store in `segments/` part of the catalog; songs that it replaces are left out from then on.

    Raises:
        SpecificationMismatch: it was made with another model or fingerprint than the rest.
        StoreError: it is not finished, or the catalog was changed by somebody else meanwhile.
        StoreBusy: somebody else is at the segment.
        UsageError: see `check_addition`.
    """
    # A purge deletes segments of no generation that hold what it has to delete.
    with exclusive(segment):
        return _add_segment(catalog, segment, replacing)


def _add_segment(catalog: Path, segment: Path, replacing: bool) -> Generation:
    before = read_generation(catalog) if is_living(catalog) else None
    specification = read_finished_run(segment).specification
    added = read_rows(segment, specification, ["song_id"])["song_id"].to_pylist()
    if before is None:
        _check_addition(catalog, set(), added, replacing)
        return _append(catalog, None, Generation(1, f"{len(added)} songs added", (segment.name,)))
    if segment.name in before.segments:
        raise changed_meanwhile(catalog)
    songs = songs_of(catalog, before)
    _check_addition(catalog, ids_of(songs), added, replacing)
    first = read_run(catalog / SEGMENTS_FOLDER / before.segments[0]).specification
    if first.sha256 != specification.sha256:
        raise SpecificationMismatch(
            f"{segment} has specification {specification.sha256[:12]}, the catalog {first.sha256[:12]}"
        )
    change = f"{len(added)} songs {'replaced' if replacing else 'added'}"
    removed = _with_removed(before, songs, set(added)) if replacing else before.removed
    segments = (*before.segments, segment.name)
    return _append(catalog, before, replace(before, change=change, removed=removed, segments=segments))


def remove_songs(catalog: Path, ids: list[str]) -> Generation:
    """Take songs out of a catalog; ids that are out already are no error.

    Raises:
        StoreError: the catalog was changed by somebody else meanwhile.
        UsageError: an id was never in the catalog.
    """
    before = read_generation(catalog)
    songs = songs_of(catalog, before)
    present = ids_of(songs)
    known = present | ids_of(before.removed)
    if unknown := sorted(set(ids) - known):
        raise UsageError(f"{len(unknown)} songs were never in {catalog}, such as {', '.join(unknown[:3])}")
    taken_out = set(ids) & present
    if not taken_out:
        return before
    removed = _with_removed(before, songs, taken_out)
    return _append(catalog, before, replace(before, change=f"{len(taken_out)} songs removed", removed=removed))


def removals(catalog: Path) -> list[tuple[str, str | None, int]]:
    """All that was ever taken out: song id, `codes_sha256`, and the first generation without it.

    It only grows: a song that was added again is in another segment than the one that it was taken out of.
    """
    seen: dict[tuple[str, str], tuple[str, str | None, int]] = {}
    for number in numbered(catalog / GENERATIONS_FOLDER):
        for segment, songs in read_generation(catalog, number).removed.items():
            for song, codes in songs.items():
                seen.setdefault((segment, song), (song, codes, number))
    return list(seen.values())


def register_index(catalog: Path, index: Path) -> None:
    """Remember that an index was built from a catalog."""
    known = indexes(catalog)
    if index.resolve() not in known:
        write_json(catalog / INDEXES_FILE, {"indexes": [str(path) for path in (*known, index.resolve())]})


def indexes(catalog: Path) -> list[Path]:
    """Index folders that were built from a catalog; some may be gone."""
    file = catalog / INDEXES_FILE
    return [Path(path) for path in json.loads(file.read_text(encoding="utf-8"))["indexes"]] if file.exists() else []


def _append(catalog: Path, before: Generation | None, generation: Generation) -> Generation:
    folder = catalog / GENERATIONS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if before is None:
        generation = replace(generation, parent_sha256=secrets.token_hex(32))
    else:
        # Of the state that was changed, and not of the newest: what came in between would be undone.
        generation = replace(generation, number=before.number + 1, parent_sha256=before.sha256)
    generation = replace(generation, created=now())
    path = folder / f"{generation.number:04}.json"
    # Not by the process's number: on two hosts of a shared file system it may be the same.
    temporary = path.with_name(f".{uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        temporary.write_text(json.dumps(asdict(generation), indent=1, sort_keys=True), encoding="utf-8")
        # Unlike a rename, a link never takes the place of what somebody else has put there meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        raise changed_meanwhile(catalog) from None
    finally:
        temporary.unlink(missing_ok=True)
    return generation


def changed_meanwhile(catalog: Path) -> StoreError:
    return StoreError(f"{catalog} was changed by somebody else meanwhile; run the same command again")


def _with_removed(
    generation: Generation, songs: dict[str, dict[str, str | None]], ids: set[str]
) -> dict[str, dict[str, str | None]]:
    removed = {segment: dict(of_segment) for segment, of_segment in generation.removed.items()}
    for segment, of_segment in songs.items():
        found = {song: codes for song, codes in of_segment.items() if song in ids}
        if found:
            removed[segment] = removed.get(segment, {}) | found
    return removed


def songs_of(catalog: Path, generation: Generation) -> dict[str, dict[str, str | None]]:
    """Segment → song id → codes hash of the songs that a generation holds."""
    songs = {}
    for segment in generation.segments:
        folder = catalog / SEGMENTS_FOLDER / segment
        rows = read_rows(folder, read_run(folder).specification, ["song_id", "codes_sha256"])
        codes = dict(zip(rows["song_id"].to_pylist(), rows["codes_sha256"].to_pylist(), strict=True))
        songs[segment] = {song: c for song, c in codes.items() if song not in generation.removed.get(segment, {})}
    return songs


def ids_of(songs: dict[str, dict[str, str | None]]) -> set[str]:
    return {song for of_segment in songs.values() for song in of_segment}


def _segments(catalog: Path, generation: Generation) -> tuple[Segment, ...]:
    _refuse_purged(catalog, generation)
    return tuple(
        Segment(catalog / SEGMENTS_FOLDER / name, frozenset(generation.removed.get(name, {})))
        for name in generation.segments
    )


def without(table: pa.Table, ids: Collection[str]) -> pa.Table:
    """The rows of other songs than a set's, or a dictionary's keys."""
    if len(ids) > len(table):
        # A data file has a few songs, and all that were ever removed would be made a table of for each file.
        return table.filter(pa.array([song not in ids for song in table["song_id"].to_pylist()], pa.bool_()))
    return table.filter(pc.invert(pc.is_in(table["song_id"], pa.array(list(ids), pa.string()))))


def _refuse_purged(catalog: Path, generation: Generation) -> None:
    for segment, gone in purged_songs(read_purges(catalog)).items():
        if segment in generation.segments and (missing := gone - generation.removed.get(segment, {}).keys()):
            raise StoreError(
                f"generation {generation.number} of {catalog} held {len(missing)} song(s) purged since, such "
                f"as {sorted(missing)[:3]}; it cannot be had any more"
            )
