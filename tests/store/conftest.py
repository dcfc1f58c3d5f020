"""Buckets that fail soon, leases that are looked at often, and a living catalog."""

from pathlib import Path

import pytest

from lumina_ray import storage
from lumina_ray.store import lease
from lumina_ray.store.changes import remove_songs
from tests.s3 import S3
from tests.store.living import add


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, s3: S3):
    """Two attempts for each request, and a server that works again afterwards."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    storage._filesystem.cache_clear()
    yield
    s3.fail(0)
    storage._filesystem.cache_clear()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"_SIGN_EVERY_S": 0.2, "_LOOK_EVERY_S": 0.1, "_SETTLED_S": 0.1}.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Generation 1: a b c d …; 2: y z added; 3: b replaced; 4: a and y removed."""
    path = tmp_path / "catalog"
    add(path, [*"abcdefghij"], seed=10)
    add(path, ["y", "z"], seed=20)
    add(path, ["b"], seed=30, replacing=True)
    remove_songs(path, ["a", "y"])
    return path
