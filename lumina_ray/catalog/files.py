"""Files that are written whole, and known by their content."""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lumina_ray.errors import StoreError
from lumina_ray.storage import Location, RemotePath

TEMPORARY_SUFFIX = ".partial"


@contextmanager
def atomic_path(path: Location) -> Iterator[Path]:
    """Yields a temporary path that becomes `path` when the block ends without an error: beside it, or on this machine
    where `path` lies in a bucket.

    A process that is killed leaves the temporary file behind. Its name ends in `TEMPORARY_SUFFIX`, so that nobody who
    looks for files of a kind takes it for one; what is written there must not go by the name.

    Raises:
        StorageError: the bucket does not take it.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="lumina-") as folder:
            yield (whole := Path(folder, path.name))
            path.upload(whole)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def reserve(descriptor: int, n_bytes: int, where: object) -> None:
    """Take the space of an open file that will be written through memory, where a full disk would end the process.

    Raises:
        StoreError: there is not as much; `where` is named.
    """
    # Not every system has it.
    if n_bytes and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, n_bytes)
        except OSError as error:
            raise StoreError(f"{where}: no room for {n_bytes / 1e9:.2f} GB ({error.strerror}); make room") from error


def temporary_matrix(n: int, dims: int) -> np.ndarray:
    """Float32 `[n, dims]`, zeros, mapped from a file in TMPDIR that is gone with the last reference to it.

    Raises:
        StoreError: there is no room for it.
    """
    if not n:
        return np.empty((n, dims), np.float32)
    with tempfile.TemporaryFile() as file:
        reserve(file.fileno(), 4 * n * dims, f"{tempfile.gettempdir()} (TMPDIR)")
        return np.memmap(file, np.float32, "w+", shape=(n, dims))


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
