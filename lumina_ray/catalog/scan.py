"""Scanning a folder of audio files for its manifest. Every file is taken, or skipped for a reason that is told."""

import errno
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from lumina_ray.audio.header import audio_header
from lumina_ray.catalog.manifest import (
    CONTROL_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_METADATA_CHARACTERS,
    MAX_PATH_CHARACTERS,
    alike,
    manifest_of,
)
from lumina_ray.catalog.rights import normal_isrc
from lumina_ray.errors import AudioError, StorageRefused, UsageError
from lumina_ray.files import open_file, sha256_of
from lumina_ray.storage import AnyPath, Location, RemotePath, answering, local
from lumina_ray.vocabulary import counted

AUDIO_SUFFIXES = frozenset(
    {
        *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv"),
        *(".mov", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".snd", ".tta", ".w64", ".wav", ".wave", ".webm"),
        *(".wma", ".wv"),
    }
)
# macOS writes a file's attributes beside it on disks of others, in a file that begins so (AppleDouble, RFC 1740).
_ATTRIBUTES_PREFIX, _ATTRIBUTES_SIGNATURE = "._", b"\x00\x05\x16\x07"

TAGS = {
    # Manifest column: tags that may hold it; the first one that is there wins.
    "title": ("title",),
    "creator": ("artist", "composer", "album_artist"),
    "isrc": ("isrc", "tsrc"),
    "publisher": ("publisher", "organization", "label"),
    "licence": ("license", "licence"),
}

NOT_AUDIO = "not audio by its name"
NO_FILE = "a pipe, socket or device"
NOWHERE = "a link that leads nowhere"
ATTRIBUTES = "attributes of another file (AppleDouble)"
NOT_UTF8 = "its name is not UTF-8"
CONTROL = "its name holds control characters"
TOO_LONG = f"its path has more than {MAX_PATH_CHARACTERS} characters"
NOT_LISTED = "a folder that cannot be listed"


@dataclass(frozen=True)
class Skipped:
    """A file, or a folder, that a scan leaves out.

    Attributes:
        path: relative to the folder that was scanned; bytes that are no UTF-8 are written as `\\xe9`.
        reason: for people, the same for all of a kind.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The files of a folder.

    Attributes:
        audio: relative paths of the audio files, sorted.
        skipped: all other files, sorted.
    """

    audio: tuple[str, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Scan:
    """The manifest of a folder, and what it leaves out.

    Attributes:
        songs: song_id (the relative path), path (absolute), `METADATA_COLUMNS`, caption (null), duration_s, sha256.
        skipped: files that are not in it.
        notes: what was left out of tags, such as ISRCs that are none.
    """

    songs: pa.Table
    skipped: tuple[Skipped, ...]
    notes: tuple[Skipped, ...]


@dataclass(frozen=True)
class AudioHeader:
    """Duration and tags of an audio file, read without decoding it.

    Attributes:
        duration_s: None when the file cannot be opened as audio, or does not give it.
        tags: manifest column → value, cut to the length that a manifest takes.
    """

    duration_s: float | None
    tags: dict[str, str]


def scan_folder(folder: AnyPath, progress: Callable[[int, int, str], None] | None = None) -> Scan:
    """Make a manifest of the audio files under `folder`, sorted by their relative path.

    A file is audio by its name's ending, whether its name begins with a dot or not; links are followed. A file that
    cannot be read as audio is listed with a null duration; the job says later why it fails.

    Args:
        progress: called with the number of files done, the number of all, and the last one's id.

    Raises:
        UsageError: no such folder, no audio in it that a manifest takes, or a bucket.
    """
    folder = local(folder)
    listing = list_audio(folder)
    if not listing.audio:
        skipped = f"; {skipped_sentence(listing.skipped)}" if listing.skipped else ""
        raise UsageError(
            f"{folder}: holds no audio files (names ending in {', '.join(sorted(AUDIO_SUFFIXES))}){skipped}"
        )
    ids, rows, notes = _distinct_ids(listing.audio), [], []
    # Threads help: hashing and FFmpeg release the interpreter, and disks answer several requests at once faster.
    with ThreadPoolExecutor() as pool:
        for done, (name, row) in enumerate(
            zip(listing.audio, pool.map(lambda name: _row(folder, name), listing.audio), strict=True), start=1
        ):
            row, left_out = _clean(row)
            notes += [Skipped(name, reason) for reason in left_out]
            rows.append(row | {"song_id": ids[done - 1]})
            if progress:
                progress(done, len(listing.audio), ids[done - 1])
    return Scan(manifest_of(rows), listing.skipped, tuple(notes))


def skipped_sentence(skipped: Sequence[Skipped]) -> str:
    """How many files were skipped, by reason, the most frequent first."""
    counts = Counter(one.reason for one in skipped).most_common()
    return f"{counted(len(skipped), 'file')} skipped: " + ", ".join(f"{count} × {reason}" for reason, count in counts)


def song_id_of(relative_path: str) -> str:
    """The song id for a path relative to the catalog's folder: the path itself, wherever that is a valid id."""
    song_id = re.sub(CONTROL_CHARACTERS, "_", relative_path)[: MAX_ID_CHARACTERS - 65]
    if song_id == relative_path:
        return song_id
    return _hashed(song_id, relative_path)


def _distinct_ids(names: Sequence[str]) -> list[str]:
    """Song ids of relative paths. A path whose id looks like an earlier one's gets a hash at its end."""
    seen: set[str] = set()
    ids = []
    for name in names:
        song_id = song_id_of(name)
        if alike(song_id) in seen:
            song_id = _hashed(song_id, name)
        seen.add(alike(song_id))
        ids.append(song_id)
    return ids


def _hashed(song_id: str, relative_path: str) -> str:
    return f"{song_id[: MAX_ID_CHARACTERS - 65]}#{hashlib.sha256(relative_path.encode()).hexdigest()}"


def read_header(path: Location) -> AudioHeader:
    """Read duration and tags of an audio file; both are empty when it cannot be opened, or is not whole.

    The file's content decides how it is read, as in `load_audio`.

    Raises:
        StorageError: its bucket does not answer.
    """
    try:
        with answering(path), _opened(path) as file:
            found = audio_header(file, str(path), walk=not isinstance(path, RemotePath))
    except (AudioError, OSError, ValueError, StorageRefused):
        return AudioHeader(None, {})
    tags = {
        column: next(found.tags[name] for name in names if found.tags.get(name))[:MAX_METADATA_CHARACTERS]
        for column, names in TAGS.items()
        if any(found.tags.get(name) for name in names)
    }
    return AudioHeader(found.duration_s, tags)


def _opened(path: Location) -> Any:
    if isinstance(path, RemotePath):
        return path.filesystem.open_input_file(path.key)
    return open_file(path)


def _clean(row: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A row with its tags as a manifest takes them, and what was left out of it."""
    row = row | {column: _one_line(row[column]) for column in TAGS if row.get(column)}
    if not row.get("isrc"):
        return row, []
    try:
        return row | {"isrc": normal_isrc(row["isrc"])}, []
    except ValueError:
        return row | {"isrc": None}, ["its tag's ISRC is none, and was left out"]


def _one_line(text: str) -> str:
    """The text of a tag without line breaks and other control characters."""
    return " ".join(re.sub(CONTROL_CHARACTERS, " ", text).split())


def _row(folder: Path, name: str) -> dict[str, Any]:
    path = (folder / name).absolute()
    header = read_header(path)
    try:
        sha256 = sha256_of(path)
    except OSError:
        sha256 = None
    return {
        "title": path.stem,
        "source": "scan",
        **header.tags,
        "path": str(path),
        "duration_s": header.duration_s,
        "sha256": sha256,
    }


def list_audio(folder: Path) -> Listing:
    """List the files under `folder`. Each folder is visited once, however it is linked.

    Raises:
        UsageError: no such folder, or it cannot be listed.
    """
    audio: list[str] = []
    skipped: list[Skipped] = []

    def skip(path: str, reason: str) -> None:
        skipped.append(Skipped(os.fsencode(os.path.relpath(path, folder)).decode(errors="backslashreplace"), reason))

    def fail(error: OSError) -> None:
        # A folder that vanishes while it is read has no name in the error.
        name = error.filename or str(folder / "…")
        if Path(name) == folder:
            raise UsageError(f"{folder}: cannot be listed ({error.strerror}); name a folder that holds audio files")
        skip(name, NOT_LISTED)

    if not _is_folder(folder):
        raise UsageError(f"{folder}: is not a folder; name one that holds audio files")
    visited = set()
    for current, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        status = Path(current).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        for path in (Path(current, name) for name in files):
            if reason := _reason_to_skip(path):
                skip(str(path), reason)
            else:
                audio.append(str(path.relative_to(folder)))
    return Listing(tuple(sorted(audio)), tuple(sorted(skipped, key=lambda one: one.path)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def _reason_to_skip(path: Path) -> str | None:
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        return NOT_AUDIO
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return NO_FILE
    except OSError as error:
        # What cannot be read for another cause is listed like what is damaged: the job says why.
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return NOWHERE
    if path.name.startswith(_ATTRIBUTES_PREFIX) and _begins_with(path, _ATTRIBUTES_SIGNATURE):
        return ATTRIBUTES
    # A manifest with such a path would be refused, after hours of scanning.
    whole = str(path.absolute())
    try:
        whole.encode()
    except UnicodeEncodeError:
        return NOT_UTF8
    if re.search(CONTROL_CHARACTERS, whole):
        return CONTROL
    return TOO_LONG if len(whole) > MAX_PATH_CHARACTERS else None


def _begins_with(path: Path, signature: bytes) -> bool:
    try:
        with open_file(path) as file:
            return file.read(len(signature)) == signature
    except OSError:
        return False
