"""What was deleted from a living catalog for good: the record of it, from before it is done."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lumina_ray.store.run import write_json

PURGES_FOLDER = "purges"


@dataclass(frozen=True)
class Purge:
    """What was deleted for good.

    Attributes:
        songs: segment → song id → `codes_sha256`.
        files: path in the catalog → sha256 before and after; no "after" where the file itself was deleted.
        finished: False from before the first change to after the last, while no file has an "after".
    """

    number: int
    created: str
    songs: dict[str, dict[str, str | None]]
    files: dict[str, tuple[str, str | None]]
    finished: bool = True


def purge_file(catalog: Path, number: int) -> Path:
    return catalog / PURGES_FOLDER / f"{number:04}.json"


def record_purge(catalog: Path, purge: Purge) -> None:
    write_json(purge_file(catalog, purge.number), asdict(purge))


def read_purges(catalog: Path) -> list[Purge]:
    numbers = numbered(catalog / PURGES_FOLDER)
    return [Purge(**json.loads(purge_file(catalog, number).read_text(encoding="utf-8"))) for number in numbers]


def purged_songs(purges: Iterable[Purge]) -> dict[str, set[str]]:
    """Segment → songs that no longer exist there, or may not."""
    gone: dict[str, set[str]] = {}
    for purge in purges:
        for segment, songs in purge.songs.items():
            gone.setdefault(segment, set()).update(songs)
    return gone


def numbered(folder: Path) -> list[int]:
    """The numbers of a folder's files, in their order."""
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())


def now() -> str:
    """For records: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
