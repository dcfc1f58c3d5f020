"""The log of a living catalog: its changes and its purges, with the songs that they took away, why, and by whom."""

from dataclasses import dataclass
from typing import Literal

from lumina_ray.storage import AnyPath, local
from lumina_ray.store.generations import Generation, read_generation
from lumina_ray.store.purged import Purge, read_purges


@dataclass(frozen=True)
class Entry:
    """One line of a log.

    Attributes:
        kind: "generation", a state of the catalog, or "purge", a deletion for good.
        number: of the generation, or of the purge; each are counted from 1.
        created: UTC, to the second.
        change: what was done, for people.
        song_ids: ids that were removed, replaced or purged, sorted.
        reason: why, if somebody said so.
        who: user and host; None before lumina-ray 0.2.
        sha256: hash of the generation; None of a purge.
    """

    kind: Literal["generation", "purge"]
    number: int
    created: str
    change: str
    song_ids: tuple[str, ...]
    reason: str | None
    who: str | None
    sha256: str | None


def read_log(catalog: AnyPath) -> list[Entry]:
    """All changes and purges of a catalog, the oldest first.

    Raises:
        StoreError: no living catalog, or a damaged record.
    """
    catalog = local(catalog)
    newest = read_generation(catalog).number
    generations = [read_generation(catalog, number) for number in range(1, newest + 1)]
    entries = [_of_generation(one, before) for one, before in zip(generations, [None, *generations], strict=False)]
    entries += map(_of_purge, read_purges(catalog))
    # Of one second, a change comes first: a purge follows a removal.
    return sorted(entries, key=lambda entry: (entry.created, entry.kind, entry.number))


def _of_generation(generation: Generation, before: Generation | None) -> Entry:
    known = before.removed if before else {}
    ids = {
        song for segment, songs in generation.removed.items() for song in songs if song not in known.get(segment, {})
    }
    return Entry(
        "generation",
        generation.number,
        generation.created,
        generation.change,
        tuple(sorted(ids)),
        generation.reason,
        generation.who,
        generation.sha256,
    )


def _of_purge(purge: Purge) -> Entry:
    ids = sorted({song for songs in purge.songs.values() for song in songs})
    change = f"{len(ids)} songs {'purged' if purge.finished else 'being purged, not finished'}"
    return Entry("purge", purge.number, purge.created, change, tuple(ids), purge.reason, purge.who, None)
