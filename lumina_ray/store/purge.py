"""Deleting songs that were taken out of a living catalog, and showing that they are gone."""

import shutil
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from lumina_ray.errors import StoreError
from lumina_ray.files import TEMPORARY_SUFFIX, atomic_path, sha256_of
from lumina_ray.storage import AnyPath, local
from lumina_ray.store.generations import SEGMENTS_FOLDER, Generation, changed_meanwhile, read_generation
from lumina_ray.store.lock import exclusive
from lumina_ray.store.purged import (
    PURGES_FOLDER,
    Purge,
    author,
    checked_reason,
    now,
    purged_songs,
    read_purges,
    record_purge,
)
from lumina_ray.store.run import CHECKPOINT_FOLDER, DATA_FOLDER, MANIFEST_FILE
from lumina_ray.store.segments import ids_of, songs_of, without

# Names in `lumina_ray.calibration`, which may not be imported here; the second is an earlier version's of the first.
_FILES_OF_SONGS = ("membership.parquet", "use.parquet", "song_noise.parquet", "shared.parquet")


def purge(catalog: AnyPath, reason: str | None = None) -> Purge | None:
    """Delete every trace of removed songs from the catalog.

    Rows, codes, vectors, paths, checkpoints and membership evidence are deleted. The files to be changed are recorded
    first, with their hashes, and every file is read again afterwards. After an interruption, the next purge goes on
    from the record. Ids and hashes stay, in generations and in the purge's own record: they show which songs are gone.

    Args:
        reason: why, in one line, for the record.

    Returns:
        The record of the purge, or None when there was nothing to do.

    Raises:
        StoreError: a purged song is still found, something cannot be deleted, or the catalog was changed by somebody
            else meanwhile.
        UsageError: no such reason.
        StoreBusy: another process purges the catalog, or fingerprints songs that are to be purged.
    """
    catalog, reason = local(catalog), checked_reason(reason)
    generation = read_generation(catalog)
    lost = ids_of(generation.removed) - ids_of(songs_of(catalog, generation))
    unfinished = _unfinished_with(catalog, generation, lost)
    with ExitStack() as held:
        for folder in (catalog / PURGES_FOLDER, *unfinished):
            held.enter_context(exclusive(folder))
        if {folder.name for folder in unfinished} & set(read_generation(catalog).segments):
            raise changed_meanwhile(catalog)
        return _purge(catalog, generation, lost, unfinished, reason)


def _purge(
    catalog: Path, generation: Generation, lost: set[str], unfinished: list[Path], reason: str | None
) -> Purge | None:
    earlier = read_purges(catalog)
    done = purged_songs(one for one in earlier if one.finished)
    songs = {
        segment: {song: codes for song, codes in removed.items() if song not in done.get(segment, set())}
        for segment, removed in generation.removed.items()
    }
    songs = {segment: of_segment for segment, of_segment in songs.items() if of_segment}
    segments = [catalog / SEGMENTS_FOLDER / segment for segment in generation.segments]
    # A finished store is not resumed: its checkpoint can go.
    folders = [*(segment / CHECKPOINT_FOLDER for segment in segments if segment.name in songs), *unfinished]
    written = [catalog, catalog / PURGES_FOLDER, *segments, *(segment / DATA_FOLDER for segment in segments)]
    leftovers = [path for folder in written for path in folder.glob(f"*{TEMPORARY_SUFFIX}")]
    tables: dict[Path, Collection[str]] = {
        path: songs[segment.name] for segment in segments if segment.name in songs for path in _tables(segment)
    }
    tables |= {catalog / name: lost for name in _FILES_OF_SONGS if (catalog / name).is_file()}

    begun = next((one for one in earlier if not one.finished), None)
    changed = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    changed += leftovers + [path for path, gone in tables.items() if _held(path, gone)]
    if not (begun or songs or changed):
        return None
    # For a file that an interrupted purge has changed, the hash from before that purge counts.
    before: dict[str, tuple[str, str | None]]
    before = {str(path.relative_to(catalog)): (sha256_of(path), None) for path in changed}
    before |= begun.files if begun else {}
    number = begun.number if begun else len(earlier) + 1
    why = reason or (begun.reason if begun else None)
    record = Purge(number, now(), songs, before, finished=False, reason=why, who=author())
    record_purge(catalog, record)

    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise StoreError(f"{folder} cannot be deleted: see who may write there, and purge again")
    for path in leftovers:
        path.unlink(missing_ok=True)
    for path, gone in tables.items():
        if _held(path, gone):
            kept = without(pq.read_table(path, partitioning=None), gone)
            with atomic_path(path) as temporary:
                pq.write_table(kept, temporary)
    for path, gone in tables.items():
        if left := _held(path, gone):
            raise StoreError(f"{path} still holds purged songs, such as {sorted(left)[:3]}")
    after = {name: (sha256, _sha256_now(catalog / name)) for name, (sha256, _) in before.items()}
    record = replace(record, files=after, finished=True)
    record_purge(catalog, record)
    return record


def _sha256_now(path: Path) -> str | None:
    return sha256_of(path) if path.exists() else None


def _unfinished_with(catalog: Path, generation: Generation, ids: set[str]) -> list[Path]:
    """Segments that are in no generation, as after an interrupted `replace`, and may hold some songs."""

    def concerned(segment: Path) -> bool:
        manifest = segment / MANIFEST_FILE
        # The manifest is written before any row. Where it is missing, a purge may have been killed while it deleted.
        return not manifest.exists() or bool(_held(manifest, ids))

    unlisted = (path for path in (catalog / SEGMENTS_FOLDER).iterdir() if path.name not in generation.segments)
    return sorted(filter(concerned, unlisted))


def _tables(segment: Path) -> list[Path]:
    return [segment / MANIFEST_FILE, *sorted((segment / DATA_FOLDER).glob("*.parquet"))]


def _held(path: Path, ids: Collection[str]) -> set[str]:
    """The ids among `ids`, a set or a dictionary's keys, whose songs a table holds."""
    songs = pq.read_table(path, columns=["song_id"], partitioning=None)["song_id"].to_pylist()
    return {song for song in songs if song in ids}
