"""A folder of audio files → its manifest."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pyarrow as pa

from lumina_ray.audio.decode import FFMPEG_FORMATS
from lumina_ray.catalog.files import sha256_of
from lumina_ray.catalog.manifest import CONTROL_CHARACTERS, MAX_ID_CHARACTERS, MAX_METADATA_CHARACTERS, manifest_of
from lumina_ray.errors import StorageRefused, UsageError
from lumina_ray.storage import Location, RemotePath, answering

AUDIO_SUFFIXES = frozenset(
    {
        *(".aac", ".aif", ".aifc", ".aiff", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mp3"),
        *(".oga", ".ogg", ".opus", ".w64", ".wav", ".wave", ".webm", ".wma", ".wv"),
    }
)

TAGS = {
    # manifest column: tags that may hold it, the first that is there wins
    "title": ("title",),
    "creator": ("artist", "composer", "album_artist"),
    "isrc": ("isrc", "tsrc"),
    "publisher": ("publisher", "organization", "label"),
    "licence": ("license", "licence"),
}


@dataclass(frozen=True)
class AudioHeader:
    """What an audio file says of itself, read without decoding it.

    Attributes:
        duration_s: None when the file cannot be opened as audio, or does not tell.
        tags: manifest columns and their values, as long as a manifest takes.
    """

    duration_s: float | None
    tags: dict[str, str]


def scan_folder(folder: Path, progress: Callable[[int, int, str], None] | None = None) -> pa.Table:
    """A manifest of the audio files under `folder`, sorted by their relative path.

    A file is audio by its name's ending. Hidden files and folders are left out; links are followed. A file that
    cannot be read as audio is listed with a null duration, for the job to say why it fails.

    Args:
        progress: called with the number of files done, the number of all, and the last one's id.
    Returns:
        song_id (the relative path), path (absolute), `METADATA_COLUMNS`, duration_s, sha256.
    Raises:
        UsageError: no such folder, no audio in it, a name that no manifest takes, or a folder that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder; name one that holds audio files")
    relative = sorted(_audio_files(folder))
    if not relative:
        raise UsageError(f"{folder}: holds no audio files (names ending in {', '.join(sorted(AUDIO_SUFFIXES))})")
    rows = []
    # Threads: hashing and FFmpeg both release the interpreter, and disks answer better to several requests.
    with ThreadPoolExecutor() as pool:
        for done, row in enumerate(pool.map(lambda name: _row(folder, name), relative), start=1):
            rows.append(row)
            if progress:
                progress(done, len(relative), str(row["song_id"]))
    return manifest_of(rows)


def song_id_of(relative_path: str) -> str:
    """The id of the file at this path relative to its catalog's folder: the path itself where it can be one."""
    song_id = re.sub(CONTROL_CHARACTERS, "_", relative_path)[: MAX_ID_CHARACTERS - 65]
    if song_id == relative_path:
        return song_id
    return f"{song_id}#{hashlib.sha256(relative_path.encode()).hexdigest()}"


def read_header(path: Location) -> AudioHeader:
    """Duration and tags of an audio file; both empty when FFmpeg cannot open it, or nobody may.

    Raises:
        StorageError: its bucket does not answer.
    """
    try:
        source: Any = str(path)
        if isinstance(path, RemotePath):
            with answering(path):
                source = path.filesystem.open_input_file(path.key)
        elif not path.is_file():
            # A pipe would be waited for, for ever.
            return AudioHeader(None, {})
        # As the decoder does: a playlist in disguise must not make FFmpeg open files and addresses.
        options = {"protocol_whitelist": "file", "format_whitelist": FFMPEG_FORMATS}
        with av.open(source, options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                return AudioHeader(None, {})
            stream = container.streams.audio[0]
            # Ogg keeps its tags with the stream, other containers with the file.
            found = {key.lower(): value.strip() for key, value in {**container.metadata, **stream.metadata}.items()}
            duration_s: float | None = container.duration / av.time_base if container.duration else None
            if stream.duration and stream.time_base:
                duration_s = float(stream.duration * stream.time_base)
    except (av.error.FFmpegError, OSError, ValueError, StorageRefused):
        return AudioHeader(None, {})
    tags = {
        column: next(found[name] for name in names if found.get(name))[:MAX_METADATA_CHARACTERS]
        for column, names in TAGS.items()
        if any(found.get(name) for name in names)
    }
    return AudioHeader(duration_s, tags)


def _row(folder: Path, name: str) -> dict[str, object]:
    path = (folder / name).absolute()
    header = read_header(path)
    try:
        # A pipe would be waited for, for ever, and a link to /dev/zero has no end.
        sha256 = sha256_of(path) if path.is_file() else None
    except OSError:
        sha256 = None
    return {
        "title": path.stem,
        "source": "scan",
        **header.tags,
        "song_id": song_id_of(Path(name).as_posix()),
        "path": str(path),
        "duration_s": header.duration_s,
        "sha256": sha256,
    }


def _audio_files(folder: Path) -> Iterator[str]:
    """Paths of the audio files under `folder`, relative to it, each folder visited once however it is linked."""

    def fail(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be listed ({error.strerror}); change its permissions or move it")

    visited = set()
    for current, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        status = Path(current).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(current, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            relative = str(path.relative_to(folder))
            try:
                relative.encode()
            except UnicodeEncodeError:
                raise UsageError(f"{folder}: the name {relative!r} is not UTF-8; rename the file") from None
            # As manifests do: otherwise the whole of it would be refused, after hours.
            if re.search(CONTROL_CHARACTERS, whole := str(path.absolute())):
                raise UsageError(f"{whole!r}: holds control characters; rename the file or folder")
            yield relative
