"""The record of a living catalog: every state of it is a numbered file that is never changed.

Layout of a living catalog:

    segments/0001/…         stores, one for each time that songs were added or replaced
    generations/0001.json   the segments of one state of the catalog, and the songs in them that it leaves out
    purges/0001.json        songs that were deleted for good, and the files that they were deleted from
    indexes.json            index folders that were built from the catalog; they are told which songs are removed
    indexes.lock            held by the process that tells them; left behind, and then without meaning
    calibration.json        written by `lumina calibrate`, with song_noise.parquet and shared.parquet
    membership.parquet      written by `lumina use`

The newest generation is the catalog as it is. Each generation holds the hash of the one before.
"""

import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self
from uuid import uuid4

from lumina_ray.errors import StoreError
from lumina_ray.files import TEMPORARY_SUFFIX
from lumina_ray.storage import AnyPath, local
from lumina_ray.store.purged import author, now, numbered

GENERATIONS_FOLDER = "generations"
SEGMENTS_FOLDER = "segments"


@dataclass(frozen=True)
class Generation:
    """One state of a living catalog.

    Attributes:
        change: the change that made this state, for people.
        segments: names of the stores that the catalog consists of.
        removed: segment → song id → `codes_sha256` of each song that is left out; null where the song had failed.
        reason: why songs were removed, if somebody said so.
        who: the user and the host that made the change; None before lumina-ray 0.2.
        parent_sha256: hash of the generation before. The first generation has a random one, so that no two catalogs
            begin with the same hash.
    """

    number: int
    change: str
    segments: tuple[str, ...]
    removed: dict[str, dict[str, str | None]] = field(default_factory=dict)
    parent_sha256: str = ""
    created: str = ""
    reason: str | None = None
    who: str | None = None

    @property
    def sha256(self) -> str:
        # Generations of before have no reason and nobody, and must keep their hashes.
        known = {key: value for key, value in asdict(self).items() if key not in ("reason", "who") or value is not None}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        return cls(**values | {"segments": tuple(values["segments"])})


def is_living(catalog: AnyPath) -> bool:
    """Whether a folder is a living catalog, and not a single store."""
    return bool(numbered(local(catalog) / GENERATIONS_FOLDER))


def read_generation(catalog: AnyPath, number: int | None = None) -> Generation:
    """Read one generation, by default the newest.

    Raises:
        StoreError: there is none with that number, or its file is damaged.
        UsageError: the catalog lies in a bucket.
    """
    catalog = local(catalog)
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
    """The hash of the first generation: it identifies a catalog wherever it lies. A copy has the same identity."""
    return read_generation(catalog, 1).sha256


def append_generation(catalog: Path, before: Generation | None, generation: Generation) -> Generation:
    """Write the next generation. Its number, time, author and parent are set here.

    Args:
        before: the state that was changed; None begins a catalog.

    Raises:
        StoreError: another process has written a generation with that number meanwhile.
    """
    folder = catalog / GENERATIONS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if before is None:
        generation = replace(generation, parent_sha256=secrets.token_hex(32))
    else:
        # The number follows the state that was changed, not the newest one: the new generation would undo changes in
        # between.
        generation = replace(generation, number=before.number + 1, parent_sha256=before.sha256)
    generation = replace(generation, created=now(), who=author())
    path = folder / f"{generation.number:04}.json"
    # A process number would not do as a name: on two hosts of a shared file system it may be the same.
    temporary = path.with_name(f".{uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        temporary.write_text(json.dumps(asdict(generation), indent=1, sort_keys=True), encoding="utf-8")
        # Unlike a rename, a link never replaces a file that another process has put there meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        raise changed_meanwhile(catalog) from None
    finally:
        temporary.unlink(missing_ok=True)
    return generation


def changed_meanwhile(catalog: Path) -> StoreError:
    """The error of a change that lost against another one."""
    return StoreError(f"{catalog} was changed by somebody else meanwhile; run the same command again")
