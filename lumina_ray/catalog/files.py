"""Files that are written whole, and known by their content."""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lumina_ray.storage import Location, RemotePath


@contextmanager
def atomic_path(path: Location) -> Iterator[Path]:
    """Yields a temporary path that becomes `path` when the block ends without an error: beside it, or on this machine
    where `path` lies in a bucket.

    Raises:
        StorageError: the bucket does not take it.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="lumina-") as folder:
            yield (whole := Path(folder, path.name))
            path.upload(whole)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
