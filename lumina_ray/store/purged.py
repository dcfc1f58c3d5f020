"""Records of songs that were deleted from a living catalog for good. A record is written before the deletion."""

import getpass
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lumina_ray.errors import UsageError
from lumina_ray.store.run import write_json

PURGES_FOLDER = "purges"
_REASON_CHARACTERS = 1000


@dataclass(frozen=True)
class Purge:
    """Songs that were deleted for good.

    Attributes:
        songs: segment → song id → `codes_sha256`.
        files: path in the catalog → sha256 before and after; "after" is None where the file itself was deleted.
        reason: why, if somebody said so.
        who: the user and the host that did it; None before lumina-ray 0.2.
        finished: False while the purge changes files; no file has an "after" until it is finished.
    """

    number: int
    created: str
    songs: dict[str, dict[str, str | None]]
    files: dict[str, tuple[str, str | None]]
    finished: bool = True
    reason: str | None = None
    who: str | None = None


def purge_file(catalog: Path, number: int) -> Path:
    """The file of a purge's record."""
    return catalog / PURGES_FOLDER / f"{number:04}.json"


def record_purge(catalog: Path, purge: Purge) -> None:
    """Write the record of a purge, in place of an earlier one with its number."""
    write_json(purge_file(catalog, purge.number), asdict(purge))


def read_purges(catalog: Path) -> list[Purge]:
    """All purges of a catalog, the oldest first."""
    numbers = numbered(catalog / PURGES_FOLDER)
    return [Purge(**json.loads(purge_file(catalog, number).read_text(encoding="utf-8"))) for number in numbers]


def purged_songs(purges: Iterable[Purge]) -> dict[str, set[str]]:
    """Segment → ids of songs that are deleted there, or are being deleted."""
    gone: dict[str, set[str]] = {}
    for purge in purges:
        for segment, songs in purge.songs.items():
            gone.setdefault(segment, set()).update(songs)
    return gone


def numbered(folder: Path) -> list[int]:
    """The numbers that name a folder's JSON files, in ascending order."""
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())


def author() -> str:
    """The user of this process and its host, for records; a number where the user has no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def checked_reason(reason: str | None) -> str | None:
    """A reason as records take it.

    Raises:
        UsageError: it is blank, has several lines, or is longer than 1000 characters.
    """
    if reason is not None and (not reason.strip() or not reason.isprintable() or len(reason) > _REASON_CHARACTERS):
        raise UsageError(f"a reason must be one line of at most {_REASON_CHARACTERS} characters, got {reason[:60]!r}")
    return reason


def now() -> str:
    """The time for records: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
