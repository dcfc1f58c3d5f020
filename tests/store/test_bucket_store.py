"""Stores in a bucket of a real S3-compatible server: begun, resumed, looked into, and repaired."""

import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lumina_ray.cli.main import run
from lumina_ray.errors import SpecificationMismatch, StorageError, StoreError
from lumina_ray.storage import RemotePath
from lumina_ray.store import Run, begin_run, condemn, drop_damaged, failed_rows, finish_commits, read_run, store_status
from tests.s3 import S3
from tests.store.test_status import SPECIFICATION, write_part


@pytest.fixture
def half(s3: S3, tmp_path: Path, request: pytest.FixtureRequest) -> RemotePath:
    """A store in the bucket: three songs committed, one not."""
    begin_run(tmp_path / "store", Run("b" * 64, 4, "nano", SPECIFICATION, {}))
    for folder in ("data", "checkpoint"):
        (tmp_path / "store" / folder).mkdir()
    write_part(tmp_path / "store", "run_000000", {"a": None, "b": "audio.silent"}, time.time())
    write_part(tmp_path / "store", "run_000001", {"c": None}, time.time())
    write_part(tmp_path / "store", "run_000002", {"d": None}, time.time(), pending=True)
    return s3.upload(tmp_path / "store", request.node.name)


def test_a_store_is_begun_once_and_resumed_as_what_it_is(s3: S3) -> None:
    store, run = s3.path("begun"), Run("b" * 64, 10, "nano", SPECIFICATION, {})
    assert not begin_run(store, run)
    assert begin_run(store, run)
    assert read_run(store) == run
    with pytest.raises(SpecificationMismatch, match="n_songs"):
        begin_run(store, Run("b" * 64, 11, "nano", SPECIFICATION, {}))
    s3.path("other/file").touch()
    with pytest.raises(StoreError, match="is not empty"):
        begin_run(s3.path("other"), run)


def test_how_far_it_is_is_told_from_the_bucket(half: RemotePath) -> None:
    found = store_status(half)
    assert (found.state, found.songs, found.ok, found.failed, found.audio_s) == ("unfinished", 4, 2, 1, 120)
    assert found.last_commit_s is not None
    assert found.last_commit_s < 60
    assert Counter(row["error_code"] for row in failed_rows(half)) == {"audio.silent": 1}
    (half / "_SUCCESS").touch()
    assert store_status(half).state == "finished"
    condemn(half, "a bad worker")
    assert store_status(half).state == "condemned"


def test_a_commit_that_was_interrupted_between_copy_and_delete_is_finished(half: RemotePath) -> None:
    both = (half / "checkpoint/run_000001.parquet").read_bytes()
    (half / "checkpoint/run_000001.pending.parquet").write_bytes(both)
    assert store_status(half).ok == 2, "it is committed: the data file was there before the record"
    finish_commits(half)
    assert sorted(path.name for path in (half / "checkpoint").iterdir()) == [
        "run_000000.parquet",
        "run_000001.parquet",
        "run_000002.pending.parquet",
    ]


def test_what_is_damaged_is_dropped_and_what_does_not_answer_is_not(half: RemotePath, s3: S3, impatient) -> None:
    part = half / "data/run_000001-0.parquet"
    s3.fail(10, key="run_000001")
    with pytest.raises(StorageError, match=r"run_000001-0.parquet\?\S+: the storage"):
        drop_damaged(half)
    s3.fail(10, key="run_000001")
    with pytest.raises(StorageError):
        store_status(half)
    s3.fail(0)
    assert drop_damaged(half) == []
    part.write_bytes(part.read_bytes()[:-50])
    assert store_status(half).ok == 1
    assert drop_damaged(half) == ["run_000001-0.parquet"]
    assert not part.exists()
    assert not (half / "checkpoint/run_000001.parquet").exists()


def lumina(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lumina", *arguments])
    with pytest.raises(SystemExit) as ended:
        run()
    return int(ended.value.code or 0)


def test_commands_take_addresses_or_say_that_they_do_not(
    half: RemotePath, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lumina(monkeypatch, "status", str(half)) == 0
    assert f"{half}: unfinished, 3 of 4 songs, 1 failed" in capsys.readouterr().out
    assert lumina(monkeypatch, "failed", str(half)) == 0
    assert "audio.silent" in capsys.readouterr().out
    assert lumina(monkeypatch, "catalog", "log", "s3://bucket/catalog") == 2
    assert capsys.readouterr().err == (
        "lumina: s3://bucket/catalog: must lie on a file system, not in a bucket; give a path\n"
    )
