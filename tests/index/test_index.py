import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lumina_ray.calibration import (
    calibrate_store,
    catalog_centre,
    read_calibration,
    song_noise_of,
    write_calibration,
)
from lumina_ray.calibration.membership import write_membership
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.files import sha256_of
from lumina_ray.index import build, build_index, load_snapshot
from lumina_ray.store import Store
from tests.calibration.synthetic import DIMS, World, demo_stores, membership_evidence, unit, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    catalog, controls, _ = demo_stores(tmp_path_factory.mktemp("stores"))
    write_calibration(calibrate_store(catalog, controls), catalog.path)
    return catalog


@pytest.fixture(scope="module")
def index(store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("index") / "an index"
    build_index(store, out)
    return out


def calibrated(catalog: Store, folder: Path, seed: int = 77) -> Store:
    worlds = {c: World(np.random.default_rng(seed), d) for c, d in DIMS.items()}
    controls = write_store(folder / "controls", {c: w.music(20) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(catalog, controls), catalog.path)
    return catalog


def test_snapshot_holds_the_store(store, index):
    snapshot = load_snapshot(index)
    assert snapshot.version == "v0001"
    assert len(snapshot) == 130
    assert snapshot.songs["song_id"].to_pylist() == store.song_ids
    assert snapshot.songs["title"].to_pylist() == store.songs["title"].to_pylist()
    assert snapshot.specification_sha256 == store.specification.sha256
    for c in ("P", "M"):
        np.testing.assert_array_equal(snapshot.vectors(c, np.arange(130)), store.vectors(c))
        calibration = read_calibration(store.path)
        noise = song_noise_of(calibration, store.song_ids, store.path)[c]
        np.testing.assert_array_equal(snapshot.noise[c].mean, noise.mean)
        np.testing.assert_array_equal(snapshot.noise[c].spread, noise.spread)
        np.testing.assert_array_equal(snapshot.centres[c], catalog_centre(store.vectors(c)))
        reference = np.flatnonzero(calibration.songs["reference"])
        np.testing.assert_array_equal(snapshot.references[c].vectors, store.vectors(c)[reference].astype(np.float64))
        np.testing.assert_array_equal(snapshot.references[c].noise.spread, noise.spread[reference])


def test_songs_are_in_one_piece_however_they_were_written(store, index, tmp_path):
    """From a column in pieces, rows are taken more slowly the more songs there are."""
    folder = tmp_path / "v0001"
    shutil.copytree(index / "v0001", folder)
    pq.write_table(pq.read_table(folder / "ids.parquet"), folder / "ids.parquet", row_group_size=20)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["ids.parquet"] = sha256_of(folder / "ids.parquet")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    songs = load_snapshot(folder).songs
    assert songs["song_id"].num_chunks == 1
    assert songs["song_id"].to_pylist() == store.song_ids


def test_manifest_says_what_it_was_made_of(store, index):
    manifest = json.loads((index / "v0001" / "manifest.json").read_text())
    assert manifest["n_songs"] == 130
    assert manifest["dims"] == DIMS
    assert manifest["n_excluded"] == 0
    assert manifest["specification"] == json.loads(json.dumps(store.specification.to_dict()))
    assert set(manifest["files"]) == {
        *("P.faiss", "M.faiss", "ids.parquet", "equal_songs.parquet", "centres.npz", "calibration.json")
    }
    assert {"faiss", "numpy", "lumina_ray"} <= set(manifest["software"])
    assert [p.name for p in index.iterdir()] == ["v0001"]


def test_search_is_exact(store, index):
    snapshot = load_snapshot(index)
    queries = World(np.random.default_rng(5), DIMS["P"]).music(7)
    scores, rows = snapshot.search("P", queries, 10)
    assert scores.shape == rows.shape == (7, 10)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    exact = queries.astype(np.float64) @ store.vectors("P").T.astype(np.float64)
    np.testing.assert_array_equal(rows, np.argsort(-exact, axis=1, kind="stable")[:, :10])
    np.testing.assert_array_equal(scores, np.take_along_axis(exact, rows, axis=1).astype(np.float32))


def test_every_song_finds_itself(store, index):
    _, rows = load_snapshot(index).search("M", store.vectors("M"), 1)
    assert rows[:, 0].tolist() == list(range(130))


def test_more_than_the_catalog_is_the_catalog(index):
    snapshot = load_snapshot(index)
    scores, rows = snapshot.search("M", World(np.random.default_rng(5), DIMS["M"]).music(2), 1000)
    assert rows.shape == (2, 130)
    assert (np.sort(rows, axis=1) == np.arange(130)).all()
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_does_not_change_an_answer(index, batch):
    snapshot = load_snapshot(index)
    queries = World(np.random.default_rng(6), DIMS["P"]).music(64)
    scores, rows = snapshot.search("P", queries, 20)
    parts = [snapshot.search("P", queries[i : i + batch], 20) for i in range(0, 64, batch)]
    np.testing.assert_array_equal(np.concatenate([s for s, _ in parts]), scores)
    np.testing.assert_array_equal(np.concatenate([r for _, r in parts]), rows)


def test_equal_scores_come_by_row_even_across_the_cut(tmp_path):
    vectors = {c: World(np.random.default_rng(3), d).music(60) for c, d in DIMS.items()}
    vectors["P"][10:50] = vectors["P"][10]
    index = tmp_path / "index"
    build_index(calibrated(write_store(tmp_path / "s", vectors), tmp_path), index)
    _, rows = load_snapshot(index).search("P", vectors["P"][10:11], 7)
    assert rows[0].tolist() == [10, 11, 12, 13, 14, 15, 16]


def test_versions_count_up_and_the_newest_is_loaded(store, tmp_path):
    assert [build_index(store, tmp_path).name for _ in range(3)] == ["v0001", "v0002", "v0003"]
    assert load_snapshot(tmp_path).version == "v0003"
    assert load_snapshot(tmp_path / "v0002").version == "v0002"
    assert load_snapshot(tmp_path).key == load_snapshot(tmp_path / "v0001").key


def test_builders_side_by_side_never_clobber(store, tmp_path):
    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(lambda _: build_index(store, tmp_path).name, range(12)))
    assert sorted(names) == [f"v{i:04d}" for i in range(1, 13)]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    for name in names:
        load_snapshot(tmp_path / name)


def test_half_written_versions_are_never_read(store, tmp_path):
    build_index(store, tmp_path)
    newer = build_index(store, tmp_path)
    (newer / "M.faiss").unlink()
    (tmp_path / "v0007").mkdir()
    (tmp_path / ".building-1").mkdir()
    assert load_snapshot(tmp_path).version == "v0001"
    assert build_index(store, tmp_path).name == "v0008"


def test_a_flipped_bit_is_found(store, tmp_path):
    file = build_index(store, tmp_path) / "P.faiss"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"P\.faiss is missing or damaged"):
        load_snapshot(tmp_path)


def test_bad_vectors_never_enter_and_are_counted(tmp_path):
    vectors = {c: World(np.random.default_rng(3), d).music(40) for c, d in DIMS.items()}
    vectors["P"][2] = 0
    vectors["M"][5] = np.inf
    snapshot = load_snapshot(build_index(calibrated(write_store(tmp_path / "s", vectors), tmp_path), tmp_path / "i"))
    assert len(snapshot) == 38
    assert snapshot.record.excluded == {
        "song-0002": "the P vector is zero",
        "song-0005": "the M vector is not finite",
    }
    ids = snapshot.songs["song_id"].to_pylist()
    assert not {"song-0002", "song-0005"} & set(ids)
    # Row numbers of both channels still belong to the same song.
    for c in ("P", "M"):
        _, rows = snapshot.search(c, vectors[c][[7]], 1)
        assert ids[rows[0, 0]] == "song-0007"


def test_without_calibration(tmp_path):
    vectors = {c: World(np.random.default_rng(3), d).music(4) for c, d in DIMS.items()}
    store = write_store(tmp_path / "s", vectors)
    with pytest.raises(StoreError, match=r"run `lumina calibrate .*s --controls CONTROL_STORE`"):
        build_index(store, tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_store_changed_since_calibration(store, tmp_path):
    vectors = {c: store.vectors(c).copy() for c in DIMS}
    vectors["P"][0] = unit(vectors["P"][0] + 0.1)
    changed = write_store(tmp_path / "s", vectors)
    (changed.path / "calibration.json").write_bytes((store.path / "calibration.json").read_bytes())
    with pytest.raises(StoreError, match="has changed since it was calibrated"):
        build_index(changed, tmp_path / "i")


def test_a_build_publishes_the_calibration_that_it_checked(tmp_path, monkeypatch):
    store, controls, worlds = demo_stores(tmp_path)
    checked = calibrate_store(store, controls)
    write_calibration(checked, store.path)
    write_membership(membership_evidence(store, controls, [3]), store.path)

    def calibrated_meanwhile(vectors_ND):
        calibrated(store, tmp_path / "meanwhile", seed=78)
        write_membership(membership_evidence(store, controls, [4]), store.path)
        monkeypatch.undo()
        return catalog_centre(vectors_ND)

    monkeypatch.setattr(build, "catalog_centre", calibrated_meanwhile)
    snapshot = load_snapshot(build_index(store, tmp_path / "i"))
    assert read_calibration(store.path).sha256 != checked.sha256
    assert snapshot.calibration.sha256 == snapshot.record.calibration_sha256 == checked.sha256
    assert snapshot.membership.songs["p_value"].to_numpy().argmin() == 3


@pytest.mark.parametrize("of", ["catalog", "controls"])
def test_a_snapshot_with_a_calibration_that_is_not_its_own_is_not_read(index, store, tmp_path, of):
    folder = Path(shutil.copytree(index / "v0001", tmp_path / "v0001"))
    other = read_calibration(folder / "calibration.json").model_copy(update={f"{of}_sha256": "f" * 64})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["calibration.json"] = sha256_of(write_calibration(other, folder))
    if of == "catalog":
        manifest["calibration_sha256"] = other.sha256
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="its calibration or membership evidence is not of its songs"):
        load_snapshot(folder)


def test_duplicate_ids(store, tmp_path):
    vectors = {c: World(np.random.default_rng(3), d).music(3) for c, d in DIMS.items()}
    doubled = write_store(tmp_path / "s", vectors, ids=["a", "a", "b"])
    with pytest.raises(StoreError, match="more than once: a"):
        calibrated(doubled, tmp_path)


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_no_index_there(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="lumina index STORE --out"):
        load_snapshot(tmp_path / path)


def test_bad_queries(index):
    snapshot = load_snapshot(index)
    with pytest.raises(SpecificationMismatch, match="96 dimensions"):
        snapshot.search("P", np.ones((1, 5), np.float32), 3)
    with pytest.raises(UsageError, match="not finite"):
        snapshot.search("P", np.full((1, 96), np.nan, np.float32), 3)
    with pytest.raises(UsageError, match="k must be at least 1, got 0"):
        snapshot.search("P", np.ones((1, 96), np.float32), 0)


def test_ids_are_readable_without_this_software(index):
    assert pq.read_table(index / "v0001" / "ids.parquet").num_rows == 130


def test_searching_needs_no_torch():
    """A searcher replica must start in seconds and fit beside a large index."""
    code = (
        "import sys, lumina_ray.attribution, lumina_ray.report; "
        "print([m for m in ('torch', 'ray', 'fastapi', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
