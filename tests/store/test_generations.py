"""A living catalog: what is in each state, and changes of it, also at once."""

import getpass
import hashlib
import itertools
import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.store import generations, segments
from lumina_ray.store.changes import add_segment, check_addition, next_segment, remove_songs, song_ids
from lumina_ray.store.equal_audio import equal_audio
from lumina_ray.store.generations import read_generation
from lumina_ray.store.log import read_log
from lumina_ray.store.purge import purge
from lumina_ray.store.segments import open_store, read_catalog
from tests.calibration.synthetic import DIMS, World, write_store
from tests.store.living import add, meanwhile


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


def test_another_model_is_refused(catalog: Path) -> None:
    with pytest.raises(SpecificationMismatch, match="has specification"):
        add(catalog, ["q"], seed=50, weights="b" * 64)
    assert read_generation(catalog).number == 4


def test_catalogs_that_begin_in_the_same_second_with_as_many_songs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "now", lambda: "2026-01-01T00:00:00+00:00")
    for name in ("one", "two"):
        add(tmp_path / name, ["a"], seed=1)
    assert generations.identity(tmp_path / "one") != generations.identity(tmp_path / "two")


def test_a_catalog_that_is_none_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="lumina catalog add"):
        read_generation(tmp_path)
