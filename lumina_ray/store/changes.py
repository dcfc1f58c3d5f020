"""Changes of a living catalog: songs are added, replaced or removed, and each change is a new generation."""

from dataclasses import replace
from pathlib import Path

from lumina_ray.catalog.manifest import alike
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.storage import AnyPath, local
from lumina_ray.store.generations import (
    GENERATIONS_FOLDER,
    SEGMENTS_FOLDER,
    Generation,
    append_generation,
    changed_meanwhile,
    is_living,
    read_generation,
)
from lumina_ray.store.lock import exclusive
from lumina_ray.store.purged import checked_reason, numbered
from lumina_ray.store.read import read_finished_run, read_rows
from lumina_ray.store.run import read_run
from lumina_ray.store.segments import ids_of, songs_of


def next_segment(catalog: AnyPath) -> Path:
    """The folder where songs to be added are fingerprinted; the same one until they are in a generation."""
    catalog = local(catalog)
    n_segments = len(read_generation(catalog).segments) if is_living(catalog) else 0
    return catalog / SEGMENTS_FOLDER / f"{n_segments + 1:04}"


def song_ids(catalog: AnyPath) -> set[str]:
    """Ids of the songs in the newest generation, failed songs included; none where there is no catalog yet."""
    catalog = local(catalog)
    return ids_of(songs_of(catalog, read_generation(catalog))) if is_living(catalog) else set()


def check_addition(catalog: AnyPath, ids: list[str], *, replacing: bool) -> None:
    """Check that songs can be added to a catalog: none is there yet, or all are there, to be replaced.

    Raises:
        UsageError: names some of the ids that are there, or are not there.
    """
    _check_addition(local(catalog), song_ids(catalog), ids, replacing)


def _check_addition(catalog: Path, present: set[str], ids: list[str], replacing: bool) -> None:
    wrong = sorted(set(ids) - present) if replacing else sorted(set(ids) & present)
    if not wrong and not replacing:
        known = {alike(song_id): song_id for song_id in present}
        if look_alike := [(song_id, known[key]) for song_id in ids if (key := alike(song_id)) in known]:
            new, old = look_alike[0]
            raise UsageError(
                f"{len(look_alike)} songs have ids that differ from those in {catalog} in nothing but white space, "
                f"case or Unicode form, such as {new!r} and {old!r}; give them other ids"
            )
    if wrong:
        listed = ", ".join(wrong[:3])
        if replacing:
            raise UsageError(f"{len(wrong)} songs are not in {catalog}, such as {listed}; `lumina catalog add` them")
        raise UsageError(
            f"{len(wrong)} songs are in {catalog} already, such as {listed}; `lumina catalog replace` exchanges them"
        )


def add_segment(catalog: AnyPath, segment: AnyPath, *, replacing: bool) -> Generation:
    """Make a finished store in `segments/` part of the catalog.

    Args:
        replacing: the songs' ids are in the catalog; the earlier songs with those ids are left out from then on.

    Raises:
        SpecificationMismatch: it was made with another model or fingerprint than the rest.
        StoreError: it is not finished, or the catalog was changed by somebody else meanwhile.
        StoreBusy: another process works on the segment.
        UsageError: see `check_addition`.
    """
    catalog, segment = local(catalog), local(segment)
    # A purge deletes a segment that is in no generation and holds songs to be purged.
    with exclusive(segment):
        return _add_segment(catalog, segment, replacing)


def _add_segment(catalog: Path, segment: Path, replacing: bool) -> Generation:
    before = read_generation(catalog) if is_living(catalog) else None
    specification = read_finished_run(segment).specification
    added = read_rows(segment, specification, ["song_id"])["song_id"].to_pylist()
    if before is None:
        _check_addition(catalog, set(), added, replacing)
        return append_generation(catalog, None, Generation(1, f"{len(added)} songs added", (segment.name,)))
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
    return append_generation(
        catalog, before, replace(before, change=change, removed=removed, segments=segments, reason=None)
    )


def remove_songs(catalog: AnyPath, ids: list[str], reason: str | None = None) -> Generation:
    """Take songs out of a catalog. An id that was removed earlier is no error.

    Args:
        reason: why, in one line, for the catalog's log.

    Raises:
        StoreError: the catalog was changed by somebody else meanwhile.
        UsageError: an id was never in the catalog; no such reason.
    """
    catalog, reason = local(catalog), checked_reason(reason)
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
    after = replace(before, change=f"{len(taken_out)} songs removed", removed=removed, reason=reason)
    return append_generation(catalog, before, after)


def removals(catalog: Path) -> list[tuple[str, str | None, int]]:
    """All songs that were ever removed: song id, `codes_sha256`, and the first generation without it.

    The list only grows: a song that is added again is in another segment than the one that it was removed from.
    """
    seen: dict[tuple[str, str], tuple[str, str | None, int]] = {}
    for number in numbered(catalog / GENERATIONS_FOLDER):
        for segment, songs in read_generation(catalog, number).removed.items():
            for song, codes in songs.items():
                seen.setdefault((segment, song), (song, codes, number))
    return list(seen.values())


def _with_removed(
    generation: Generation, songs: dict[str, dict[str, str | None]], ids: set[str]
) -> dict[str, dict[str, str | None]]:
    removed = {segment: dict(of_segment) for segment, of_segment in generation.removed.items()}
    for segment, of_segment in songs.items():
        found = {song: codes for song, codes in of_segment.items() if song in ids}
        if found:
            removed[segment] = removed.get(segment, {}) | found
    return removed
