"""Files that are written as a whole or not at all, large temporary arrays, and hashes of files."""

import errno
import hashlib
import io
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lumina_ray.errors import StoreError, UsageError
from lumina_ray.storage import Location, RemotePath

if TYPE_CHECKING:
    import numpy as np

TEMPORARY_SUFFIX = ".partial"
_RAYS_COPIES = "working_dir_files"


@contextmanager
def atomic_path(path: Location) -> Iterator[Path]:
    """Yield a temporary path, whose file becomes `path` when the block ends without an error.

    The temporary file lies beside `path`, or on this machine where `path` is in a bucket. A killed process leaves it
    behind. On a file system its name ends in `TEMPORARY_SUFFIX`, so that a search for files of some type does not find
    it. A writer must therefore not choose the format by the temporary file's name.

    Raises:
        StorageError: the bucket does not accept the file.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="lumina-") as folder:
            yield (whole := Path(folder, path.name))
            path.upload(whole)
        return
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, "Is a folder, a file's name is needed", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_file(path: Path) -> io.FileIO:
    """Open a file for reading, unbuffered, and never wait: opening a pipe would, and /dev/zero has no end.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, socket or device.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a pipe, socket or device, not a file", str(path))
    # What takes the file's place meanwhile is not waited for either.
    return io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def read_file(path: Path) -> bytes:
    """Read a file's bytes; see `open_file`."""
    with open_file(path) as file:
        return file.read()


def reserve(descriptor: int, n_bytes: int, where: object) -> None:
    """Reserve disk space for an open file that will be written through a memory map.

    Without it, a full disk would end the process at some later write.

    Args:
        descriptor: the open file.
        n_bytes: how much space to reserve, in bytes.
        where: the file's name in the error.

    Raises:
        StoreError: the disk has too little space.
    """
    # Some systems do not have this function.
    if n_bytes and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, n_bytes)
        except OSError as error:
            raise StoreError(f"{where}: no room for {n_bytes / 1e9:.2f} GB ({error.strerror}); make room") from error


def temporary_matrix(n: int, dims: int) -> "np.ndarray":
    """An array of zeros, float32 `[n, dims]`, mapped from a file in TMPDIR that vanishes with the array.

    Raises:
        StoreError: TMPDIR has no room for the file.
    """
    import numpy as np

    if not n:
        return np.empty((n, dims), np.float32)
    with tempfile.TemporaryFile() as file:
        reserve(file.fileno(), 4 * n * dims, f"{tempfile.gettempdir()} (TMPDIR)")
        return np.memmap(file, np.float32, "w+", shape=(n, dims))


def check_lasting(place: Location) -> None:
    """Check that an output will not vanish with the job that makes it.

    Raises:
        UsageError: it lies in Ray's copy of a job's working directory, which Ray deletes some time after the job.
    """
    if isinstance(place, Path) and _RAYS_COPIES in place.resolve().parts:
        raise UsageError(
            f"{place}: lies in Ray's copy of the working directory (`ray job submit --working-dir`), which Ray deletes "
            "after the job; give a path that begins with /, such as $PWD/store as the shell writes it out, or a bucket"
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; see `open_file`."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
