"""Indexes in a bucket of a real S3-compatible server."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.calibration import calibrate_store, read_calibration, write_calibration
from lumina_ray.errors import StorageError, StoreError, UsageError
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.store import open_store
from tests.calibration.synthetic import demo_stores
from tests.s3 import S3


def test_an_index_in_a_bucket_answers_as_one_in_a_folder(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hasty, impatient
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    demo_stores(tmp_path)
    catalog, controls = (open_store(s3.upload(tmp_path / name, f"demo/{name}")) for name in ("catalog", "controls"))
    write_calibration(calibrate_store(catalog, controls), catalog.path)
    assert read_calibration(catalog.path).specification_sha256 == catalog.specification.sha256
    here = load_snapshot(build_index(catalog, tmp_path / "index"))
    index = s3.path("demo/index")
    assert build_index(catalog, index) == index / "v0001"
    there = load_snapshot(index)
    assert (there.version, there.record.files) == ("v0001", here.record.files)
    for query in (here.search("P", catalog.vectors("P")[:3], 5), there.search("P", catalog.vectors("P")[:3], 5)):
        np.testing.assert_array_equal(query[1][:, 0], [0, 1, 2])

    # The next is not there until it is whole: what was sent of it is passed over, and its number.
    (index / "v0002/P.faiss").write_bytes(b"half")
    assert load_snapshot(index).version == "v0001"
    assert build_index(catalog, index) == index / "v0003"

    # Nothing is fetched twice, and what is damaged in the cache is fetched again.
    load_snapshot(index)
    (cached,) = (tmp_path / "cache").rglob("v0003/P.faiss")
    s3.fail(1_000_000, method="GET", key=".faiss")
    load_snapshot(index)
    cached.write_bytes(b"damaged")
    with pytest.raises(StorageError, match=r"v0003/P.faiss\?"):
        load_snapshot(index)
    s3.fail(0)
    load_snapshot(index)
    (index / "v0003/P.faiss").write_bytes(b"damaged")
    cached.unlink()
    with pytest.raises(StoreError, match=r"v0003/P.faiss\?.* is damaged"):
        load_snapshot(index)


def test_an_index_of_a_living_catalog_is_refused(s3: S3, tmp_path: Path) -> None:
    catalog, _, _ = demo_stores(tmp_path)
    with pytest.raises(UsageError, match="must lie on a file system"):
        build_index(replace(catalog, generation=1), s3.path("living/index"))
