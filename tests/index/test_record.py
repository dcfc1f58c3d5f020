"""A snapshot's record: written and read back, and refused where it is damaged or foreign. Paths as text."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lumina_ray.calibration import calibrate_store, read_calibration, write_calibration
from lumina_ray.errors import StoreError
from lumina_ray.index import IndexConfig, build_index, load_snapshot, newest_snapshot
from lumina_ray.index.record import SnapshotRecord, read_record
from tests.calibration.synthetic import demo_stores


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    store, controls, _ = demo_stores(folder)
    write_calibration(calibrate_store(store, controls), store.path)
    build_index(store, folder / "index")
    build_index(store, folder / "index", IndexConfig("IVF4,SQ8", recall=0.5))
    return folder / "index"


@pytest.mark.parametrize("version", ["v0001", "v0002"])
def test_the_file_is_the_record(index: Path, version: str) -> None:
    text = (index / version / "manifest.json").read_text(encoding="utf-8")
    record = read_record(index / version)
    assert SnapshotRecord.model_validate_json(text).to_json() == text == record.to_json()
    # A record of an exact index has no fields of an approximate one.
    assert ("oversampling" in json.loads(text)["indexes"]["P"]) == (not record.indexes["P"].exact)


def changed(index: Path, folder: Path, **values: Any) -> Path:
    """A copy of a snapshot with some fields of its record exchanged, or left out where None."""
    copy = Path(shutil.copytree(index / "v0002", folder / "v0002"))
    manifest = json.loads((copy / "manifest.json").read_text()) | values
    (copy / "manifest.json").write_text(
        json.dumps({k: v for k, v in manifest.items() if v is not None or k not in values})
    )
    return copy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"key": None}, r"manifest\.json is damaged \(key: Field required\): build the index again"),
        ({"n_songs": "many"}, r"manifest\.json is damaged \(n_songs: "),
        ({"indexes": {"P": {"kind": "Flat"}}}, r"manifest\.json is damaged \(indexes/P/exact: "),
        ({"indexes": {"P": {"kind": "IVF4", "exact": False, "shards": [], "memory_bytes": 1}}}, "oversampling"),
        ({"indexes": {"X": {}}}, r"manifest\.json is damaged \(indexes/X/"),
        ({"files": {"../elsewhere": "a"}}, r"manifest\.json is damaged \(files: .*elsewhere is not a name"),
        ({"files": ["P.faiss"]}, r"manifest\.json is damaged \(files: "),
        ({"format_version": 3}, "has format version 3, this software reads 4: build the index again"),
    ],
)
def test_a_damaged_record_names_file_and_field(
    index: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        load_snapshot(changed(index, tmp_path, **values))


@pytest.mark.parametrize("text", ["{", "[]", "1", "", "\xff"])
def test_what_is_no_object_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match="is damaged"):
        read_record(tmp_path)
    with pytest.raises(StoreError, match="does not exist"):
        read_record(tmp_path / "nowhere")


def test_paths_may_be_text(tmp_path: Path) -> None:
    class Where(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(tmp_path / "index")

    store, controls, _ = demo_stores(tmp_path)
    calibration = calibrate_store(str(store.path), controls.path)
    assert calibration == calibrate_store(store, controls)
    assert read_calibration(str(write_calibration(calibration, str(store.path)))) == calibration
    built = build_index(str(store.path), str(tmp_path / "index"))
    assert newest_snapshot(str(tmp_path / "index")) == built
    for path in (str(built), built, Where()):
        assert load_snapshot(path).record == read_record(built)
    with pytest.raises(StoreError, match="nowhere does not exist"):
        load_snapshot("nowhere")
