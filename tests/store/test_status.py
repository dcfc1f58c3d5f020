"""How far a store is, told from its files: unfinished, damaged, finished, by a clock that cannot be trusted."""

import errno
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumina_ray.errors import StorageError, StoreError
from lumina_ray.fingerprint import Specification
from lumina_ray.store import (
    Run,
    begin_run,
    condemn,
    drop_damaged,
    failed_rows,
    store_schema,
    store_status,
)

SPECIFICATION = Specification("stats", "a" * 64, {"P": 2, "M": 2}, {"P": [14], "M": [4]}, [0.4, 1.2, 1.3, 1.4], 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    begin_run(tmp_path, Run("b" * 64, 10, "nano", SPECIFICATION, {}))
    for folder in ("data", "checkpoint"):
        (tmp_path / folder).mkdir()
    return tmp_path


def write_part(store: Path, stem: str, songs: dict[str, str | None], at_s: float, pending: bool = False) -> Path:
    """A block as Ray Data commits it: songs with their error codes, None for one of 60 s that is `ok`."""
    rows = [
        {"song_id": song_id, "path": f"/{song_id}.wav"}
        | ({"status": "failed", "error_code": code, "error": "why"} if code else {"status": "ok", "duration_s": 60.0})
        for song_id, code in songs.items()
    ]
    path = store / "data" / f"{stem}-0.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=store_schema(SPECIFICATION)), path)
    os.utime(path, (at_s, at_s))
    record = store / "checkpoint" / (f"{stem}.pending.parquet" if pending else f"{stem}.parquet")
    pq.write_table(pa.table({"song_id": list(songs)}), record)
    return path


def test_counts_rates_and_the_rest(store: Path) -> None:
    now = time.time()
    write_part(store, "old_000000", {"a": None}, now - 5_000)
    write_part(store, "run_000000", {"b": None, "c": "audio.silent"}, now - 130)
    write_part(store, "run_000001", {"d": None, "e": None}, now - 80)
    write_part(store, "run_000002", {"f": "audio.missing", "g": "audio.silent"}, now - 30)
    write_part(store, "run_000003", {"h": None}, now, pending=True)
    found = store_status(store)
    assert (found.state, found.songs, found.ok, found.failed, found.audio_s) == ("unfinished", 10, 4, 3, 240)
    assert found.failures == {"audio.silent": 2, "audio.missing": 1}
    # In the 100 s between the first and the last commit of the last ten minutes: 4 songs, 2 of them of 60 s.
    assert found.songs_per_s == pytest.approx(0.04, rel=0.01)
    assert found.audio_s_per_s == pytest.approx(1.2, rel=0.01)
    assert found.eta_s == pytest.approx(3 / 0.04, rel=0.01)
    assert found.last_commit_s == pytest.approx(30, abs=5)
    assert "unfinished, 7 of 10 songs, 3 failed" in found.sentence
    assert [(row["song_id"], row["error_code"]) for row in failed_rows(store)] == [
        ("c", "audio.silent"),
        ("f", "audio.missing"),
        ("g", "audio.silent"),
    ]


def test_an_empty_a_finished_and_a_condemned_store(store: Path) -> None:
    empty = store_status(store)
    assert (empty.ok, empty.last_commit_s, empty.songs_per_s, empty.eta_s) == (0, None, None, None)
    write_part(store, "run_000000", dict.fromkeys("abcdefghij"), time.time())
    (store / "_SUCCESS").touch()
    assert (store_status(store).state, store_status(store).eta_s) == ("finished", None)
    condemn(store, "a bad worker")
    assert store_status(store).state == "condemned"


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_makes_no_nonsense(store: Path, jump_s: float) -> None:
    now = time.time()
    for i, song_id in enumerate("abcd"):
        write_part(store, f"run_{i:06}", {song_id: None}, now + i + (jump_s if i > 1 else 0))
    found = store_status(store)
    assert found.ok == 4
    assert found.last_commit_s is not None
    assert found.last_commit_s >= 0
    assert found.songs_per_s == pytest.approx(1, rel=0.01)
    assert found.eta_s == pytest.approx(6, rel=0.01)


def test_truncated_parts_go_with_their_records(store: Path) -> None:
    whole = write_part(store, "run_000000", {"a": None}, time.time())
    damaged = write_part(store, "run_000001", {"b": None}, time.time())
    half_written = write_part(store, "run_000002", {"c": None}, time.time(), pending=True)
    for path in (damaged, half_written):
        path.write_bytes(path.read_bytes()[:-50])
    assert store_status(store).ok == 1
    assert drop_damaged(store) == [damaged.name]
    assert sorted((store / "data").iterdir()) == [whole, half_written], "what was never committed is Ray Data's"
    assert {path.name for path in (store / "checkpoint").iterdir()} == {
        "run_000000.parquet",
        "run_000002.pending.parquet",
    }


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE, errno.EMFILE])
def test_what_cannot_be_read_for_a_moment_is_not_taken_for_damage(
    store: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_part(store, "run_000000", {"a": None}, time.time())
    unread = write_part(store, "run_000001", {"b": "audio.silent"}, time.time())
    before = sorted(store.rglob("*"))

    def failing(read: Callable[..., Any]) -> Callable[..., Any]:
        def read_or_fail(path: str, *args: Any, **options: Any) -> Any:
            if Path(path) == unread:
                raise OSError(number, os.strerror(number))
            return read(path, *args, **options)

        return read_or_fail

    monkeypatch.setattr(pq, "read_metadata", failing(pq.read_metadata))
    monkeypatch.setattr(pq, "read_table", failing(pq.read_table))
    for look in (drop_damaged, store_status, failed_rows):
        with pytest.raises(StorageError, match=rf"run_000001-0\.parquet: cannot be read \(\[Errno {number}\]"):
            look(store)
    assert sorted(store.rglob("*")) == before


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_part(store, "run_000000", {"a": None}, time.time())
    before = sorted(store.rglob("*"))

    def refuse(path: Any, read: Callable[..., Any]) -> Any:
        if Path(path) == store / "data":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    with monkeypatch.context() as patch:
        for name in ("listdir", "scandir"):
            patch.setattr(os, name, functools.partial(refuse, read=getattr(os, name)))
        with pytest.raises(StorageError, match=r"data: cannot be read \(.*Permission denied"):
            drop_damaged(store)
    assert sorted(store.rglob("*")) == before


def test_a_record_without_data_and_data_without_a_record_go(store: Path) -> None:
    """Ray would skip the songs of the one for ever, and make those of the other a second time."""
    whole = write_part(store, "run_000000", {"a": None}, time.time())
    lost = write_part(store, "run_000001", {"b": None}, time.time())
    unrecorded = write_part(store, "run_000002", {"c": None}, time.time())
    under_way = write_part(store, "run_000003", {"d": None}, time.time(), pending=True)
    lost.unlink()
    (store / "checkpoint" / "run_000002.parquet").unlink()
    assert drop_damaged(store) == [lost.name, unrecorded.name]
    assert sorted((store / "data").iterdir()) == [whole, under_way]
    assert {path.name for path in (store / "checkpoint").iterdir()} == {
        "run_000000.parquet",
        "run_000003.pending.parquet",
    }
    assert drop_damaged(store) == []


def test_what_is_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no fingerprint store"):
        store_status(tmp_path)


@pytest.mark.parametrize(
    ("codes", "groups", "sentence"),
    [
        (dict.fromkeys("abc"), (), ""),
        ({"a": "1", "b": "2", "c": "3"}, (), ""),
        (
            {"b": "1", "a": "1", "c": "3"},
            (("a", "b"),),
            "2 songs are only 1 recording, each under several ids: a = b",
        ),
        (
            {song: str(i % 4) for i, song in enumerate("abcdefghijklmnopq")},
            (("a", "e", "i", "m", "q"), ("b", "f", "j", "n"), ("c", "g", "k", "o"), ("d", "h", "l", "p")),
            "17 songs are only 4 recordings, each under several ids: a = e = i = …, b = f = j = …, c = g = k = …, …",
        ),
    ],
)
def test_songs_of_equal_audio_are_named(
    store: Path, codes: dict[str, str | None], groups: tuple[tuple[str, ...], ...], sentence: str
) -> None:
    """In files apart, too; a failed song's codes are no recording of the store."""
    for number, (song_id, sha256) in enumerate(codes.items()):
        path = write_part(store, f"run_{number:06}", {song_id: None, f"failed {song_id}": "numerics.not_finite"}, 0)
        rows = pq.read_table(path).to_pylist()
        table = pa.Table.from_pylist([row | {"codes_sha256": sha256} for row in rows], store_schema(SPECIFICATION))
        pq.write_table(table, path)
    found = store_status(store)
    assert (found.equal_audio.groups, found.equal_audio.sentence) == (groups, sentence)
    assert found.equal_audio.songs == sum(map(len, groups))
    assert bool(sentence) == (sentence in found.sentence and "under several ids" in found.sentence)
