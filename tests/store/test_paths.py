"""Public functions take a place as a str or any path, and a wrong one is an error of ours."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lumina_ray.catalog import read_manifest, scan_folder, write_manifest
from lumina_ray.errors import LuminaError, UsageError
from lumina_ray.storage import RemotePath, locate
from lumina_ray.store import (
    StoreCounter,
    export_hdf5,
    failed_rows,
    open_store,
    read_run,
    read_store,
    store_status,
    stream_store,
)
from lumina_ray.store.changes import next_segment, remove_songs, song_ids
from lumina_ray.store.generations import read_generation
from lumina_ray.store.purge import purge
from lumina_ray.store.signature import ConditionalSignature
from tests.calibration.synthetic import DIMS, World, write_store

READERS: list[Callable[[str], object]] = [open_store, read_store, stream_store, store_status, failed_rows, read_run]
OF_CATALOGS: list[Callable[[str], object]] = [read_generation, purge, lambda path: remove_songs(path, ["a"])]


class Place(os.PathLike[str]):
    """A path of somebody else's making."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    return write_store(tmp_path / "store", {c: w.music(3) for c, w in worlds.items()}, ids=["a", "b", "c"]).path  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [str, Path, Place])
def test_a_store_is_found_by_any_kind_of_path(store: Path, tmp_path: Path, kind: Callable) -> None:
    place = kind(store)
    assert open_store(place).song_ids == read_store(place).song_ids == stream_store(place).song_ids == ["a", "b", "c"]
    assert read_run(place).n_songs == store_status(place).songs
    assert StoreCounter(place).count().songs == 3
    assert failed_rows(place) == []
    export_hdf5(read_store(place), kind(tmp_path / "out" / "signatures.h5"))
    with h5py.File(tmp_path / "out" / "signatures.h5") as file:
        assert file["song_ids"].asstr()[:].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [str, Path, Place])
def test_a_manifest_is_written_and_read_by_any_kind_of_path(tmp_path: Path, kind: Callable) -> None:
    (tmp_path / "a.wav").write_bytes(b"none")
    write_manifest(scan_folder(kind(tmp_path)).songs, kind(tmp_path / "manifest.csv"))
    assert read_manifest(kind(tmp_path / "manifest.csv"))["path"].to_pylist() == [str(tmp_path / "a.wav")]


@pytest.mark.parametrize("place", ["nowhere", "no/such/folder", "ftp://bucket/store", b"bytes", None, 7])
@pytest.mark.parametrize("read", [*READERS, *OF_CATALOGS, read_manifest, scan_folder])
def test_a_wrong_place_is_an_error_of_ours(read: Callable, place: object) -> None:
    with pytest.raises(LuminaError):
        read(place)


@pytest.mark.parametrize("place", ["manifest.txt", "file/manifest.csv", 7])
def test_a_place_where_nothing_can_be_written_is_an_error_of_ours(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: object
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(LuminaError):
        write_manifest(read_store(store).songs.select(["song_id", "path"]), place)  # type: ignore[arg-type]
    with pytest.raises(LuminaError):
        export_hdf5(read_store(store), "file/signatures.h5")


def test_a_catalog_that_is_not_there_yet_has_no_songs(tmp_path: Path) -> None:
    assert song_ids(str(tmp_path / "catalog")) == set()
    assert next_segment(str(tmp_path / "catalog")) == tmp_path / "catalog" / "segments" / "0001"


def test_a_bucket_with_an_empty_part_in_its_key_is_refused_with_a_sentence() -> None:
    place = locate("s3://bucket/a//store")
    assert isinstance(place, RemotePath)
    with pytest.raises(UsageError, match="write the address without //"):
        ConditionalSignature(place)
