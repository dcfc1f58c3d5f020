"""A living catalog: what is in each state, what is gone, and what can be shown of it."""

import getpass
import hashlib
import itertools
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.calibration.membership import MEMBERSHIP_FILE, read_membership, write_membership
from lumina_ray.errors import SpecificationMismatch, StorageError, StoreBusy, StoreError, UsageError
from lumina_ray.files import sha256_of
from lumina_ray.index import Shard, build_index, load_snapshot
from lumina_ray.index.withdrawn import WITHDRAWN_FILE, follow, withdraw_removed
from lumina_ray.store import Store, built_indexes, changes, exclusive, generations, segments
from lumina_ray.store import purge as purging
from lumina_ray.store.changes import add_segment, check_addition, next_segment, remove_songs, song_ids
from lumina_ray.store.equal_audio import equal_audio
from lumina_ray.store.generations import read_generation
from lumina_ray.store.log import read_log
from lumina_ray.store.purge import purge
from lumina_ray.store.segments import Segment, open_store, read_catalog
from tests.calibration.synthetic import DIMS, World, membership_evidence, specification, write_store
from tests.store.killed import Killed, killed_before_rename


def add(catalog: Path, ids: list[str], seed: int, *, replacing: bool = False, weights: str = "a" * 64) -> Store:
    """A finished segment of songs with these ids, added."""
    worlds = {c: World(np.random.default_rng(seed + i), d) for i, (c, d) in enumerate(DIMS.items())}
    segment = next_segment(catalog)
    codes = [f"{seed}-{song}" for song in ids]
    vectors = {c: w.music(len(ids)) for c, w in worlds.items()}
    store = write_store(segment, vectors, ids=ids, spec=specification(weights), codes_sha256=codes)
    pq.write_table(store.songs.select(["song_id", "path"]), segment / "manifest.parquet")
    (segment / "checkpoint").mkdir()
    pq.write_table(store.songs.select(["song_id"]), segment / "checkpoint" / "part.parquet")
    add_segment(catalog, segment, replacing=replacing)
    return store


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Generation 1: a b c d …; 2: y z added; 3: b replaced; 4: a and y removed."""
    path = tmp_path / "catalog"
    add(path, [*"abcdefghij"], seed=10)
    add(path, ["y", "z"], seed=20)
    add(path, ["b"], seed=30, replacing=True)
    remove_songs(path, ["a", "y"])
    return path


def test_audio_of_a_song_of_before_is_told_from_that_of_one_that_was_removed(catalog: Path) -> None:
    segment = next_segment(catalog)
    vectors = {c: World(np.random.default_rng(0), d).music(3) for c, d in DIMS.items()}
    # The audio of `c`, of `a`, which was removed, and of `b` as it was before it was replaced.
    write_store(segment, vectors, ids=["p", "q", "r"], codes_sha256=["10-c", "10-a", "10-b"])
    for part in (segment, *(catalog / "segments").iterdir()):
        (part / "checkpoint").mkdir(exist_ok=True)
        shutil.copy(part / "data" / "part-0.parquet", part / "checkpoint" / "part.parquet")
    add_segment(catalog, segment, replacing=False)
    assert equal_audio(catalog).groups == (("c", "p"),)


def test_every_state_can_be_had_as_it_was(catalog: Path) -> None:
    assert read_catalog(catalog, 1).song_ids == [*"abcdefghij"]
    assert read_catalog(catalog, 2).song_ids == [*"abcdefghijyz"]
    assert read_catalog(catalog, 3).song_ids == [*"abcdefghijyz"]
    assert open_store(catalog).song_ids == [*"bcdefghijz"]
    assert open_store(catalog).generation == 4
    before, after = (
        dict(zip(s.song_ids, s.vectors("P"), strict=True)) for s in (read_catalog(catalog, 2), open_store(catalog))
    )
    assert not np.array_equal(before["b"], after["b"])
    np.testing.assert_array_equal(before["z"], after["z"])


def test_generations_are_a_chain_that_nobody_rewrites(catalog: Path) -> None:
    generations = [read_generation(catalog, number) for number in range(1, 5)]
    for one, following in itertools.pairwise(generations):
        assert following.parent_sha256 == one.sha256
    assert [generation.change for generation in generations] == [
        "10 songs added", "2 songs added", "1 songs replaced", "2 songs removed",
    ]  # fmt: skip
    with pytest.raises(StoreError, match="no generation 9; it has 1 to 4"):
        read_generation(catalog, 9)


def test_what_is_there_is_not_added_and_what_is_not_there_is_not_replaced(catalog: Path) -> None:
    with pytest.raises(UsageError, match=r"1 songs are in .* already, such as c"):
        check_addition(catalog, ["c", "new"], replacing=False)
    with pytest.raises(UsageError, match=r"1 songs are not in .*, such as new"):
        check_addition(catalog, ["c", "new"], replacing=True)
    with pytest.raises(UsageError, match="never in"):
        remove_songs(catalog, ["typo"])
    with pytest.raises(UsageError, match=r"1 songs have ids that differ .*, such as 'C ' and 'c'"):
        check_addition(catalog, ["C ", "new"], replacing=False)
    # An opt-out may be taken back.
    add(catalog, ["a"], seed=40)
    assert "a" in song_ids(catalog)


def test_removing_twice_is_no_error_and_no_change(catalog: Path) -> None:
    assert remove_songs(catalog, ["a"]).number == 4


def test_the_log_says_what_was_taken_away_why_and_by_whom(catalog: Path) -> None:
    remove_songs(catalog, ["c"], "opted out on 2026-11-28")
    add(catalog, ["new"], seed=50)
    purge(catalog, "as asked")
    log = [(e.kind, e.number, e.change, e.song_ids, e.reason) for e in read_log(catalog)]
    assert log == [
        ("generation", 1, "10 songs added", (), None),
        ("generation", 2, "2 songs added", (), None),
        ("generation", 3, "1 songs replaced", ("b",), None),
        ("generation", 4, "2 songs removed", ("a", "y"), None),
        ("generation", 5, "1 songs removed", ("c",), "opted out on 2026-11-28"),
        ("generation", 6, "1 songs added", (), None),
        ("purge", 1, "4 songs purged", ("a", "b", "c", "y"), "as asked"),
    ]
    assert {entry.who for entry in read_log(catalog)} == {f"{getpass.getuser()}@{socket.gethostname()}"}
    for reason in ("", " ", "two\nlines", "x" * 1001):
        with pytest.raises(UsageError, match="a reason must be one line"):
            remove_songs(catalog, ["d"], reason)
        with pytest.raises(UsageError, match="a reason must be one line"):
            purge(catalog, reason)


def test_a_catalog_of_before_keeps_its_hashes(catalog: Path) -> None:
    path = catalog / "generations" / "0004.json"
    values = json.loads(path.read_text())
    del values["reason"], values["who"]
    path.write_text(json.dumps(values))
    earlier = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    assert read_generation(catalog).sha256 == earlier
    assert [entry.who for entry in read_log(catalog)][3] is None


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have somebody else do something once the next change has read which songs there are."""
    read = segments.songs_of

    def read_and_wait(*args: Any) -> Any:
        songs = read(*args)
        monkeypatch.undo()
        act()
        return songs

    for module in ("changes", "purge"):
        monkeypatch.setattr(f"lumina_ray.store.{module}.songs_of", read_and_wait)


def test_of_two_changes_at_the_same_moment_one_is_refused(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, lambda: remove_songs(catalog, ["c"]))
    with pytest.raises(StoreError, match="changed by somebody else meanwhile"):
        remove_songs(catalog, ["d"])
    assert read_generation(catalog).change == "1 songs removed"
    assert "c" not in song_ids(catalog)
    remove_songs(catalog, ["d"])
    assert open_store(catalog).song_ids == [*"befghijz"]


@pytest.mark.parametrize("first_published", ["c", "d"])
def test_of_two_changes_by_processes_of_one_number_the_one_that_succeeds_is_what_is_there(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, first_published: str
) -> None:
    """As in two containers. While the removal of c is about to be published, that of d is, from beginning to end."""
    link, outcomes = os.link, {}

    def remove(song: str) -> None:
        try:
            outcomes[song] = remove_songs(catalog, [song]).number
        except StoreError:
            outcomes[song] = 0

    def publish_d_in_between(source: Path, target: Path) -> None:
        def publish_c_before(source_of_d: Path, target: Path) -> None:
            if first_published == "c":
                link(source, target)
            link(source_of_d, target)

        monkeypatch.setattr(os, "link", publish_c_before)
        remove("d")
        if first_published == "d":
            link(source, target)

    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(os, "link", publish_d_in_between)
    remove("c")
    assert outcomes == {"c": 0, "d": 0} | {first_published: 5}
    assert {"c", "d"} - song_ids(catalog) == {first_published}
    assert not [path for path in (catalog / "generations").iterdir() if path.suffix != ".json"]


def test_a_song_that_is_removed_while_it_is_replaced_stays_away(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, lambda: remove_songs(catalog, ["c"]))
    with pytest.raises(StoreError, match="changed by somebody else meanwhile"):
        add(catalog, ["c"], seed=70, replacing=True)
    assert "c" not in song_ids(catalog)
    with pytest.raises(UsageError, match=r"1 songs are not in .*, such as c"):
        check_addition(catalog, ["c"], replacing=True)


def test_the_same_songs_are_not_replaced_twice_at_once(catalog: Path) -> None:
    segment = next_segment(catalog)
    add(catalog, ["c"], seed=70, replacing=True)
    with pytest.raises(StoreError, match="changed by somebody else meanwhile"):
        add_segment(catalog, segment, replacing=True)
    assert "c" in song_ids(catalog)


def test_a_catalog_whose_beginning_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "generations").mkdir()
    (tmp_path / "generations" / ".0001.json.7").write_text("{")
    add(tmp_path, ["a"], seed=1)
    assert open_store(tmp_path).song_ids == ["a"]


@given(st.lists(st.sampled_from("abcdefgh")), st.frozensets(st.sampled_from("abcdefghij")))
def test_rows_are_left_out_by_their_songs(songs: list[str], removed: frozenset[str]) -> None:
    rows = pa.table({"song_id": pa.array(songs, pa.string()), "row": pa.array(range(len(songs)), pa.int64())})
    left = segments.without(rows, removed)
    assert left.schema == rows.schema
    assert left.to_pylist() == [row for row in rows.to_pylist() if row["song_id"] not in removed]


def test_a_file_of_a_few_songs_is_not_compared_with_all_that_were_ever_removed(tmp_path: Path) -> None:
    class Many(frozenset[str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("so many, for each file")

    rows = pa.table({"song_id": ["a", "b", "c"]})
    removed = Many(["b", *(f"gone-{i}" for i in range(100))])
    assert Segment(tmp_path, removed).present(rows)["song_id"].to_pylist() == ["a", "c"]
    pq.write_table(rows, tmp_path / "0.parquet")
    assert purging._held(tmp_path / "0.parquet", removed) == {"b"}


def test_another_model_is_refused(catalog: Path) -> None:
    with pytest.raises(SpecificationMismatch, match="has specification"):
        add(catalog, ["q"], seed=50, weights="b" * 64)
    assert read_generation(catalog).number == 4


def indexed(catalog: Path, folder: Path) -> Path:
    worlds = {c: World(np.random.default_rng(99), d) for c, d in DIMS.items()}
    if not (folder / "controls").exists():
        write_store(folder / "controls", {c: w.music(20) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(open_store(catalog), open_store(folder / "controls")), catalog)
    build_index(open_store(catalog), folder / "index")
    return folder / "index"


def test_a_removed_song_is_gone_at_once_from_an_open_index_and_later_from_the_next(
    catalog: Path, tmp_path: Path
) -> None:
    index = indexed(catalog, tmp_path)
    snapshot = load_snapshot(index)
    ids = snapshot.songs["song_id"].to_pylist()
    vector = snapshot.vectors("P", np.array([ids.index("c")]))
    assert ids[snapshot.search("P", vector, 1)[1][0, 0]] == "c"

    remove_songs(catalog, ["c"])
    told, missing = withdraw_removed(catalog)
    assert (told, missing) == ([index.resolve()], [])
    scores, rows = snapshot.search("P", vector, len(ids))
    assert len(rows[0]) == len(ids) - 1 == snapshot.n_present
    assert "c" not in {ids[row] for row in rows[0]}
    # Brute force over what is left.
    left = [row for row in range(len(ids)) if ids[row] != "c"]
    expected = np.sort(snapshot.vectors("P", np.array(left)) @ vector[0])[::-1]
    np.testing.assert_allclose(scores[0], expected, atol=1e-6)

    indexed(catalog, tmp_path)
    assert "c" not in load_snapshot(index).songs["song_id"].to_pylist()
    assert load_snapshot(index / "v0001").n_present == len(ids) - 1


def test_a_song_that_came_back_is_found_in_the_index_that_was_built_with_it(catalog: Path, tmp_path: Path) -> None:
    add(catalog, ["a"], seed=10)  # the very same codes as before
    snapshot = load_snapshot(indexed(catalog, tmp_path))
    withdraw_removed(catalog)
    assert snapshot.n_present == len(snapshot) == 11


def test_a_replaced_song_no_longer_answers_as_it_was(catalog: Path, tmp_path: Path) -> None:
    snapshot = load_snapshot(indexed(catalog, tmp_path))
    add(catalog, ["d"], seed=60, replacing=True)
    withdraw_removed(catalog)
    row = snapshot.songs["song_id"].to_pylist().index("d")
    assert snapshot.withdrawals.rows().tolist() == [row]


def test_an_index_whose_list_of_withdrawals_is_damaged_does_not_answer(catalog: Path, tmp_path: Path) -> None:
    index = indexed(catalog, tmp_path)
    (index / WITHDRAWN_FILE).write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        load_snapshot(index).search("P", np.zeros((1, DIMS["P"])), 1)


def test_a_link_to_a_snapshot_finds_no_withdrawn_song(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = indexed(catalog, tmp_path)
    remove_songs(catalog, ["c"])
    withdraw_removed(catalog)
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "current").symlink_to(index / "v0001")
    monkeypatch.chdir(index / "v0001")
    for path in (tmp_path / "live" / "current", Path()):
        snapshot = load_snapshot(path)
        assert (snapshot.version, snapshot.n_present) == ("v0001", len(snapshot) - 1)


def test_a_snapshot_without_its_list_of_withdrawals_does_not_answer(catalog: Path, tmp_path: Path) -> None:
    index = indexed(catalog, tmp_path)
    snapshot = load_snapshot(index)
    copy = shutil.copytree(index / "v0001", tmp_path / "elsewhere" / "v0001")
    with pytest.raises(StoreError, match=r"elsewhere/withdrawn\.json is missing: without it nobody knows"):
        load_snapshot(copy, Shard(0, 1, 2))
    (index / WITHDRAWN_FILE).unlink()
    with pytest.raises(StoreError, match="is missing"):
        snapshot.search("P", np.zeros((1, DIMS["P"])), 1)


def test_an_index_of_one_catalog_is_never_told_by_another(catalog: Path, tmp_path: Path) -> None:
    index = indexed(catalog, tmp_path)
    remove_songs(catalog, ["c"])
    withdraw_removed(catalog)
    told = (index / WITHDRAWN_FILE).read_text()
    other = tmp_path / "other"
    add(other, ["c", "d", "e"], seed=80)
    with pytest.raises(StoreError, match=r"index is the index of another living catalog than .*other: choose another"):
        indexed(other, tmp_path)
    assert (index / WITHDRAWN_FILE).read_text() == told
    assert [path.name for path in index.glob("v*")] == ["v0001"]

    # The folder was deleted, and is the other's now.
    shutil.rmtree(index)
    indexed(other, tmp_path)
    theirs = (index / WITHDRAWN_FILE).read_text()
    assert withdraw_removed(catalog) == ([], [index.resolve()])
    assert (index / WITHDRAWN_FILE).read_text() == theirs
    (index / WITHDRAWN_FILE).write_text(told)
    with pytest.raises(StoreError, match="of another catalog than the snapshot"):
        load_snapshot(index).search("P", np.zeros((1, DIMS["P"])), 1)


def withdrawn(index: Path) -> set[str]:
    snapshot = load_snapshot(index)
    return set(snapshot.songs["song_id"].take(snapshot.withdrawals.rows()).to_pylist())


def test_a_copy_of_a_catalog_brings_no_removed_song_back(catalog: Path, tmp_path: Path) -> None:
    """It has the same identity, and names the same indexes."""
    index = indexed(catalog, tmp_path)
    copy = Path(shutil.copytree(catalog, tmp_path / "copy"))
    remove_songs(catalog, ["c"])
    withdraw_removed(catalog)
    remove_songs(copy, ["d"])
    with pytest.raises(StoreError, match=r"index lists 1 removed songs that .*copy never removed, such as c.*take the"):
        withdraw_removed(copy)
    assert withdrawn(index) == {"c", "d"}
    # Nor does the copy keep the catalog's own removals from the index.
    remove_songs(catalog, ["e"])
    with pytest.raises(StoreError, match="such as d"):
        withdraw_removed(catalog)
    assert withdrawn(index) == {"c", "d", "e"}
    remove_songs(catalog, ["d"])
    assert withdraw_removed(catalog) == ([index.resolve()], [])


def test_an_index_that_cannot_be_told_keeps_no_other_from_being_told(catalog: Path, tmp_path: Path) -> None:
    broken, sound = (indexed(catalog, tmp_path / name) for name in ("broken", "sound"))
    (broken / WITHDRAWN_FILE).unlink()
    (broken / WITHDRAWN_FILE).mkdir()
    remove_songs(catalog, ["c"])
    with pytest.raises(StorageError, match=r"broken/index/withdrawn\.json cannot be .* \(Is a directory\)"):
        withdraw_removed(catalog)
    assert withdrawn(sound) == {"c"}
    (broken / WITHDRAWN_FILE).rmdir()
    remove_songs(catalog, ["c"])
    withdraw_removed(catalog)
    assert withdrawn(broken) == {"c"}


def test_no_index_is_built_of_an_older_state_that_holds_removed_songs(catalog: Path, tmp_path: Path) -> None:
    index = indexed(catalog, tmp_path)
    backup = Path(shutil.copytree(catalog, tmp_path / "backup"))
    remove_songs(catalog, ["c"])
    withdraw_removed(catalog)
    shutil.rmtree(catalog)
    backup.rename(catalog)
    with pytest.raises(StoreError, match="such as c: one of the two knows a copy of the catalog, or an older state"):
        indexed(catalog, tmp_path)
    assert withdrawn(index) == {"c"}
    remove_songs(catalog, ["c"])
    indexed(catalog, tmp_path)
    assert "c" not in load_snapshot(index).songs["song_id"].to_pylist()


def test_a_song_that_comes_back_and_goes_again_is_no_news_to_an_index(catalog: Path, tmp_path: Path) -> None:
    index = indexed(catalog, tmp_path)
    for _ in range(2):
        remove_songs(catalog, ["c"])
        assert withdraw_removed(catalog) == ([index.resolve()], [])
        add(catalog, ["c"], seed=10)  # the very same codes
        assert withdraw_removed(catalog) == ([index.resolve()], [])
    assert withdrawn(index) == {"c"}
    indexed(catalog, tmp_path)
    assert withdrawn(index) == set()


def test_catalogs_that_begin_in_the_same_second_with_as_many_songs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "now", lambda: "2026-01-01T00:00:00+00:00")
    for name in ("one", "two"):
        add(tmp_path / name, ["a"], seed=1)
    assert generations.identity(tmp_path / "one") != generations.identity(tmp_path / "two")


def test_an_older_list_of_withdrawals_never_takes_the_place_of_a_newer_one(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = load_snapshot(indexed(catalog, tmp_path))

    def remove() -> None:
        remove_songs(catalog, ["c"])
        withdraw_removed(catalog)

    with others_at(monkeypatch, changes, "removals", remove):
        withdraw_removed(catalog)
    withdrawn = snapshot.songs["song_id"].take(snapshot.withdrawals.rows()).to_pylist()
    assert withdrawn == ["c"]


def test_of_two_indexes_that_are_built_at_once_both_are_told(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with others_at(monkeypatch, built_indexes, "indexes", lambda: follow(catalog, folders[1])):
        follow(catalog, folders[0])
    assert {path.name for path in built_indexes.indexes(catalog)} == {"one", "two"}


@contextmanager
def others_at(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, act: Callable[[], object]
) -> Iterator[None]:
    """Have somebody else act as soon as a function of a module has read, for as long as they are let."""
    read, actor = getattr(module, function), threading.Thread(target=act)

    def read_and_wait(*args: Any) -> Any:
        known = read(*args)
        monkeypatch.undo()
        actor.start()
        actor.join(1.0)
        return known

    monkeypatch.setattr(module, function, read_and_wait)
    yield
    actor.join()


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


def test_a_catalog_that_is_none_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="lumina catalog add"):
        read_generation(tmp_path)
