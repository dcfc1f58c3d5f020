"""The one way in for audio: a path, an object in a bucket, or bytes become a nameless file."""

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lumina_ray.audio.view import View
from lumina_ray.errors import AudioError, StorageError, StorageRefused
from lumina_ray.files import open_file
from lumina_ray.storage import RemotePath

# Errors of a file system that blame the path or its rights. All other errors blame the file system itself.
_MISSING = {errno.ENOENT: "no such file", errno.ENOTDIR: "no such file"} | {
    number: os.strerror(number).lower() for number in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
}


class Source(NamedTuple):
    """An open file of encoded audio, without its name.

    Attributes:
        view: its bytes.
        sha256: their hash.
    """

    view: View
    sha256: str


@contextmanager
def open_source(source: Path | RemotePath | bytes, label: str, max_bytes: int) -> Iterator[Source]:
    """Open a file, an object in a bucket (which is read into memory), or bytes.

    Args:
        label: the audio's name in error messages.
        max_bytes: larger files are refused before they are read.

    Raises:
        AudioError: the file is missing, not a file, empty or too large.
        StorageError: a bucket or a file system does not answer.
    """
    if isinstance(source, Path):
        with _open_path(source, label, max_bytes) as (file, sha256):
            yield Source(whole(file), sha256)
        return
    body = _fetch(source, label, max_bytes) if isinstance(source, RemotePath) else source
    _check_size(len(body), label, max_bytes)
    yield Source(whole(io.BytesIO(body)), hashlib.sha256(body).hexdigest())


def whole(file: BinaryIO) -> View:
    """View all of an open file."""
    return View(file, [(0, file.seek(0, io.SEEK_END))])


@contextmanager
def _open_path(path: Path, label: str, max_bytes: int) -> Iterator[tuple[BinaryIO, str]]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("audio.not_a_file", f"{label}: is a directory, pipe, socket or device, not an audio file")
        _check_size(status.st_size, label, max_bytes)
        file = open_file(path)
    except ValueError:
        # A NUL, which no file system takes.
        raise AudioError("audio.missing", f"{label!r}: no file can have this name; check the path") from None
    except OSError as error:
        raise _unreadable(error, label) from error
    with file:
        try:
            # The whole file is read before it is decoded: decoders would take a failing file system for the file's end.
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(error, label) from error
        yield file, sha256


def _unreadable(error: OSError, label: str) -> AudioError | StorageError:
    if error.errno in _MISSING:
        return AudioError("audio.missing", f"{label}: {_MISSING[error.errno]}; check the path")
    return StorageError(f"{label}: cannot be read ({error.strerror}); try again, or check its disk")


def _check_size(size: int, label: str, max_bytes: int) -> None:
    if size == 0:
        raise AudioError("audio.empty", f"{label}: the file has 0 bytes; fetch it again")
    if size > max_bytes:
        raise AudioError("audio.too_large", f"{label}: {size} bytes, more than the limit of {max_bytes}")


def _fetch(source: RemotePath, label: str, max_bytes: int) -> bytes:
    try:
        size = source.stat().st_size
        if size > max_bytes:
            raise AudioError("audio.too_large", f"{label}: {size} bytes, more than the limit of {max_bytes}")
        return source.read_bytes()
    except FileNotFoundError:
        raise AudioError("audio.missing", f"{label}: no such object; check the address") from None
    except StorageRefused as error:
        raise AudioError("audio.missing", str(error)) from error
