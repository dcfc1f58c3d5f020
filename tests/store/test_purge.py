"""Purges of a living catalog: what is gone, and what can be shown of it."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumina_ray.calibration.membership import MEMBERSHIP_FILE, read_membership, write_membership
from lumina_ray.errors import SpecificationMismatch, StoreBusy, StoreError
from lumina_ray.files import sha256_of
from lumina_ray.store import exclusive
from lumina_ray.store import purge as purging
from lumina_ray.store.changes import next_segment, remove_songs
from lumina_ray.store.purge import purge
from lumina_ray.store.segments import Segment, open_store, read_catalog
from tests.calibration.synthetic import DIMS, World, membership_evidence, write_store
from tests.store.killed import Killed, killed_before_rename
from tests.store.living import add, meanwhile


def test_a_file_of_a_few_songs_is_not_compared_with_all_that_were_ever_removed(tmp_path: Path) -> None:
    class Many(frozenset[str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("so many, for each file")

    rows = pa.table({"song_id": ["a", "b", "c"]})
    removed = Many(["b", *(f"gone-{i}" for i in range(100))])
    assert Segment(tmp_path, removed).present(rows)["song_id"].to_pylist() == ["a", "c"]
    pq.write_table(rows, tmp_path / "0.parquet")
    assert purging._held(tmp_path / "0.parquet", removed) == {"b"}


def test_a_purge_leaves_no_row_and_says_what_it_did(catalog: Path) -> None:
    record = purge(catalog)
    assert record is not None
    assert record.songs == {"0001": {"a": "10-a", "b": "10-b"}, "0002": {"y": "20-y"}}
    for path in (catalog / "segments").rglob("*.parquet"):
        assert not {"a", "y"} & set(pq.read_table(path, partitioning=None)["song_id"].to_pylist()), path
    assert [path.parent.name for path in (catalog / "segments").rglob("checkpoint")] == ["0003"]
    for name, (before, after) in record.files.items():
        assert before != after
        assert (after is None) == name.endswith("checkpoint/part.parquet")
    assert json.loads((catalog / "purges" / "0001.json").read_text())["songs"] == record.songs
    assert open_store(catalog).song_ids == [*"bcdefghijz"]
    assert purge(catalog) is None


def test_a_purge_that_is_killed_anywhere_is_gone_on_with_and_knows_what_was_there(catalog: Path) -> None:
    undisturbed = purge(Path(shutil.copytree(catalog, catalog.with_name("undisturbed"))))
    assert undisturbed is not None
    for number in itertools.count(1):
        copy = Path(shutil.copytree(catalog, catalog.with_name(f"killed-{number}")))
        try:
            with killed_before_rename(number):
                purge(copy)
        except pytest.fail.Exception:
            break
        assert open_store(copy).song_ids == [*"bcdefghijz"]
        assert songs_of(copy, 1) == ([*"abcdefghij"] if number == 1 else None)
        record = purge(copy)
        assert record is not None
        changed = {name: hashes for name, hashes in record.files.items() if not name.endswith(".partial")}
        assert (record.songs, changed) == (undisturbed.songs, undisturbed.files)
        assert not list(copy.rglob("*.partial"))
        assert not [path for path in (copy / "segments").rglob("*.parquet") if left_in(path, {"a", "y"})]
    # The record twice, and a manifest and a data file of two segments.
    assert number == 7


def songs_of(catalog: Path, number: int) -> list[str] | None:
    """None where they cannot be had any more."""
    try:
        return read_catalog(catalog, number).song_ids
    except StoreError:
        return None


def left_in(path: Path, ids: set[str]) -> set[str]:
    return ids & set(pq.read_table(path, partitioning=None)["song_id"].to_pylist())


def test_what_was_deleted_is_looked_for_again(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(StoreError, match=r"0001/checkpoint cannot be deleted: see who may write there"):
        purge(catalog)
    monkeypatch.undo()
    record = purge(catalog)
    assert record is not None
    assert record.files["segments/0001/checkpoint/part.parquet"][1] is None


def test_a_purge_finds_songs_where_no_generation_leads(catalog: Path) -> None:
    purge(catalog)
    segment = next_segment(catalog)
    with pytest.raises(SpecificationMismatch):
        # It holds the song, and never becomes part of the catalog.
        add(catalog, ["c"], seed=70, replacing=True, weights="b" * 64)
    assert purge(catalog) is None
    remove_songs(catalog, ["c"])
    with exclusive(segment), pytest.raises(StoreBusy, match="0004"):
        purge(catalog)

    rmtree = shutil.rmtree

    def killed_in_between(folder: Path, **options: Any) -> None:
        if folder == segment:
            (folder / "manifest.parquet").unlink()
            raise Killed
        rmtree(folder, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", killed_in_between)
        purge(catalog)
    record = purge(catalog)
    assert record is not None
    assert record.songs == {"0001": {"c": "10-c"}}
    assert record.files["segments/0004/data/part-0.parquet"][1] is None
    assert not segment.exists()
    assert purge(catalog) is None
    # Its place is free for songs that are to come.
    add(catalog, ["c"], seed=70)
    assert "c" in open_store(catalog).song_ids


def test_a_segment_that_is_in_a_generation_by_now_is_not_purged(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, lambda: add(catalog, ["a"], seed=90))
    with pytest.raises(StoreError, match="changed by somebody else meanwhile"):
        purge(catalog)
    assert "a" in open_store(catalog).song_ids
    purge(catalog)
    assert "a" in open_store(catalog).song_ids


@pytest.mark.parametrize("name", [MEMBERSHIP_FILE, "use.parquet"])
def test_a_purge_takes_membership_evidence_with_it(tmp_path: Path, name: str) -> None:
    catalog = tmp_path / "catalog"
    store = add(catalog, [*"abcdef"], seed=1)
    vectors = {c: World(np.random.default_rng(2), d).music(20) for c, d in DIMS.items()}
    controls = write_store(tmp_path / "controls", vectors, prefix="control")
    evidence = membership_evidence(store, controls, [2])
    written = write_membership(evidence, catalog)
    assert isinstance(written, Path)
    path = written.rename(catalog / name)
    remove_songs(catalog, ["b"])
    record = purge(catalog)
    assert record is not None
    assert record.files[name][0] != record.files[name][1] == sha256_of(path)
    path.rename(written)
    left = read_membership(catalog)
    assert left is not None
    assert left.basis == evidence.basis
    assert left.songs.to_pylist() == [row for row in evidence.songs.to_pylist() if row["song_id"] != "b"]


def test_a_state_that_held_purged_songs_cannot_be_had_and_says_so(catalog: Path) -> None:
    purge(catalog)
    with pytest.raises(StoreError, match=r"generation 3 of .* held 1 song\(s\) purged since"):
        read_catalog(catalog, 3)
