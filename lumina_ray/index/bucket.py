"""Snapshots in a bucket: sent there file by file, and copied from there to where FAISS can read them."""

import hashlib
import os
from pathlib import Path

from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path, sha256_of
from lumina_ray.index.files import MANIFEST_FILE, version_name, versions
from lumina_ray.storage import RemotePath


def publish(snapshot: Path, index: RemotePath) -> RemotePath:
    """Make a snapshot the next version of an index in a bucket.

    Its record goes last: without it, there is no snapshot. What is left of one that was interrupted is never gone on
    with, and its number not used again.

    Raises:
        StoreBusy: somebody else is at it.
        StorageError: the bucket does not answer.
    """
    # Imported here, as stores import torch, which searching does without.
    from lumina_ray.store.lease import lease

    with lease(index):
        number = max((number for number, _ in versions(index)), default=0) + 1
        published = index / version_name(number)
        for file in sorted(snapshot.iterdir(), key=lambda file: (file.name == MANIFEST_FILE, file.name)):
            (published / file.name).upload(file)
    return published


def fetch(snapshot: RemotePath, files: dict[str, str]) -> Path:
    """A copy of a snapshot on this machine, in a cache that anything may be deleted from.

    Args:
        files: name → sha256, as in the record.

    Raises:
        StoreError: a file is not what was published. As `StorageError`: the bucket does not answer.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    index = hashlib.sha256(str(snapshot.parent).encode()).hexdigest()[:16]
    folder = cache / "lumina-ray" / index / snapshot.name
    for name, sha256 in files.items():
        copy = folder / name
        if copy.is_file() and sha256_of(copy) == sha256:
            continue
        with atomic_path(copy) as temporary:
            (snapshot / name).download(temporary)
            if sha256_of(temporary) != sha256:
                raise StoreError(f"{snapshot / name} is damaged (its sha256 is not its record's): build it again")
    with atomic_path(folder / MANIFEST_FILE) as temporary:
        (snapshot / MANIFEST_FILE).download(temporary)
    return folder
