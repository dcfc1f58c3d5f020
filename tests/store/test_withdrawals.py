"""Indexes of a living catalog: what was removed from it is gone from their answers."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.errors import StorageError, StoreError
from lumina_ray.index import Shard, build_index, load_snapshot
from lumina_ray.index.withdrawn import WITHDRAWN_FILE, follow, withdraw_removed
from lumina_ray.store import built_indexes, changes
from lumina_ray.store.changes import remove_songs
from lumina_ray.store.segments import open_store
from tests.calibration.synthetic import DIMS, World, write_store
from tests.store.living import add


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
