"""Stores whose vectors stay on disk: the same songs, the same numbers, the same calibration and index."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumina_ray.calibration import calibrate_store, store_sha256, write_calibration
from lumina_ray.errors import StoreError
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.store import open_store, read_store, store_schema, stream_store
from lumina_ray.store import read as reading
from lumina_ray.store.changes import add_segment, next_segment, remove_songs
from lumina_ray.store.read import sort_rows
from lumina_ray.store.stream import stored_codes
from lumina_ray.vocabulary import EVIDENCE_COLUMNS
from tests.calibration.synthetic import DIMS, World, specification, write_store


def store_in_parts(folder: Path, n: int = 23, n_parts: int = 4, seed: int = 0, first: int = 0, n_zero: int = 0) -> Path:
    """A store whose songs lie in no order in several files, one of them a failed song, the first ones of no use."""
    worlds = {c: World(np.random.default_rng(seed + i), d) for i, (c, d) in enumerate(DIMS.items())}
    ids = [f"song-{first + i:04d}" for i in range(n)]
    codes = [f"{seed}-{i}" for i in range(n)]
    vectors = {c: w.music(n) for c, w in worlds.items()}
    for of_channel in vectors.values():
        of_channel[:n_zero] = 0
    write_store(folder, vectors, ids=ids, codes_sha256=codes)
    whole = folder / "data" / "part-0.parquet"
    rows = pq.read_table(whole).to_pylist()
    schema = pq.read_schema(whole)
    rows[5] = dict.fromkeys(rows[5]) | {"song_id": rows[5]["song_id"], "status": "failed", "error_code": "audio.empty"}
    order = np.random.default_rng(seed).permutation(n)
    for part, of_part in enumerate(np.array_split(order, n_parts)):
        table = pa.Table.from_pylist([rows[i] for i in of_part], schema=schema)
        pq.write_table(table, folder / "data" / f"part-{part}.parquet")
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A living catalog: three stores, a song that was replaced, two that were removed."""
    path = tmp_path / "catalog"
    for seed, (first, n, replacing) in enumerate([(0, 23, False), (23, 9, False), (7, 8, True)]):
        segment = next_segment(path)
        store_in_parts(segment, n=n, seed=10 * seed, first=first)
        add_segment(path, segment, replacing=replacing)
    remove_songs(path, ["song-0002", "song-0024"])
    return path


@pytest.mark.parametrize("living", [False, True])
def test_what_is_streamed_is_what_is_read(living, tmp_path, catalog):
    path = catalog if living else store_in_parts(tmp_path / "store")
    streamed, read = stream_store(path), open_store(path)
    assert streamed.song_ids == read.song_ids
    assert streamed.failed["song_id"].to_pylist() == read.failed["song_id"].to_pylist()
    assert (streamed.run, streamed.generation) == (read.run, read.generation)
    small = [name for name in read.songs.column_names if name not in {"codes", "heard", "P", "M", *EVIDENCE_COLUMNS}]
    assert streamed.songs.column_names == small
    assert streamed.songs.to_pylist() == read.songs.select(small).to_pylist()
    for c in ("P", "M"):
        assert isinstance(streamed.vectors(c), np.memmap)
        np.testing.assert_array_equal(streamed.vectors(c), read.vectors(c))
        assert streamed.vectors(c) is streamed.vectors(c)
    assert store_sha256(streamed) == store_sha256(read)


def test_codes_come_with_their_songs_places(catalog):
    """Which files hold a song is an accident of the job; its place among the ids is not."""
    for part in catalog.glob("segments/*/data/*.parquet"):
        rows = pq.read_table(part)
        numbers = [int(song_id.removeprefix("song-")) for song_id in rows["song_id"].to_pylist()]
        codes = pa.array([np.full((4, 500), number, "<u2").tobytes() for number in numbers], pa.binary())
        pq.write_table(rows.set_column(rows.schema.get_field_index("codes"), "codes", codes), part)
    streamed = stream_store(catalog)
    found = [int(codes.chunks[0][0, 0]) for codes in stored_codes(streamed)]
    assert found != sorted(found)
    assert found == [int(streamed.song_ids[place].removeprefix("song-")) for place in streamed.places]


@pytest.mark.parametrize("n_zero", [0, 2])
def test_calibration_and_index_are_the_same(tmp_path, n_zero):
    path = store_in_parts(tmp_path / "store", n=60, n_zero=n_zero)
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    write_store(tmp_path / "controls", {c: w.music(21) for c, w in worlds.items()}, prefix="control")
    of_read = calibrate_store(read_store(path), read_store(tmp_path / "controls"))
    of_streamed = calibrate_store(stream_store(path), stream_store(tmp_path / "controls"))
    assert of_streamed.to_json() == of_read.to_json()
    write_calibration(of_read, path)
    files = [load_snapshot(build_index(opened, tmp_path / "index")).record.files for opened in
             (read_store(path), stream_store(path))]  # fmt: skip
    assert files[0] == files[1]


@pytest.mark.parametrize("change", ["less", "more"])
def test_a_store_that_changes_while_it_is_read_is_refused(tmp_path, change):
    path = store_in_parts(tmp_path / "store")
    streamed = stream_store(path)
    part = path / "data" / "part-3.parquet"
    if change == "less":
        part.unlink()
    else:
        (path / "data" / "part-9.parquet").write_bytes(part.read_bytes())
    with pytest.raises(StoreError, match="changed while it was read"):
        streamed.vectors("P")


def test_rows_are_taken_from_arrays_that_may_hold_more_than_2_gib(monkeypatch):
    """In pieces that may not: the columns stay what they were."""
    kinds = store_schema(specification()).types
    narrow = {kind for kind in kinds if pa.types.is_string(kind) or pa.types.is_binary(kind)}
    assert {kind: reading._WIDE[kind] for kind in narrow} == {
        pa.string(): pa.large_string(),
        pa.binary(): pa.large_binary(),
    }
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 4)
    rng = np.random.default_rng(0)
    ids = [f"{i:03}" for i in rng.permutation(23)]
    rows = pa.table({"song_id": ids, "codes": [song_id.encode() * 3 for song_id in ids], "n": [int(i) for i in ids]})
    in_parts = pa.concat_tables([rows.slice(i, 5) for i in range(0, 23, 5)])
    found = sort_rows(in_parts)
    assert found.schema == rows.schema
    assert found["codes"].num_chunks == 6
    assert found.equals(rows.sort_by("song_id"))
    assert len(sort_rows(rows.slice(0, 0))) == 0


def test_a_damaged_part_is_named(tmp_path):
    path = store_in_parts(tmp_path / "store")
    part = path / "data" / "part-1.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(StoreError, match="damaged data"):
        stream_store(path)
