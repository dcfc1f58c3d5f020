"""Audio files that a command line names: single files, folders of them, or manifests that list them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lumina_ray.cli.output import announce
from lumina_ray.errors import UsageError
from lumina_ray.storage import Location, RemotePath, local, locate

_MANIFEST_SUFFIXES = (".parquet", ".csv")
# File systems take 255 bytes; a number and a suffix follow.
_NAME_BYTES = 200


@dataclass(frozen=True)
class Query:
    """One file to attribute.

    Attributes:
        name: what its report is called: letters, digits, dots, dashes and underscores; unique among the queries.
    """

    name: str
    place: Location


def find_queries(arguments: Sequence[str]) -> list[Query]:
    """All audio files that some arguments name, in their order, a folder's by relative path.

    Raises:
        UsageError: a folder without audio files.
        ManifestError: a manifest that cannot be used.
    """
    queries: list[Query] = []
    taken: set[str] = set()
    for argument in arguments:
        for label, place in _files(locate(argument)):
            bare = re.sub(r"[^\w.-]+", "_", label).strip("._").encode()[:_NAME_BYTES].decode(errors="ignore")
            name = bare = bare or "query"
            number = 1
            while name.lower() in taken:
                number += 1
                name = f"{bare}-{number}"
            taken.add(name.lower())
            queries.append(Query(name, place))
    return queries


def are_many(arguments: Sequence[str]) -> bool:
    """Whether arguments can name more than one file: several of them, a folder, or a manifest."""
    return len(arguments) > 1 or any(
        place.suffix.lower() in _MANIFEST_SUFFIXES or _is_folder(place) for place in map(locate, arguments)
    )


def _files(place: Location) -> Iterator[tuple[str, Location]]:
    # Decoders come with them, which no other command needs.
    from lumina_ray.catalog import read_manifest
    from lumina_ray.catalog.scan import list_audio, skipped_sentence

    if place.suffix.lower() in _MANIFEST_SUFFIXES:
        for row in read_manifest(place).select(["song_id", "path"]).to_pylist():
            yield row["song_id"], locate(row["path"])
    elif _is_folder(place):
        found = list_audio(local(place))
        if found.skipped:
            announce(f"{place}: {skipped_sentence(found.skipped)}")
        if not found.audio:
            raise UsageError(f"{place}: holds no audio files")
        for relative in found.audio:
            yield relative.replace("/", "_"), place / relative
    else:
        yield place.name, place


def _is_folder(place: Location) -> bool:
    return not isinstance(place, RemotePath) and place.is_dir()
