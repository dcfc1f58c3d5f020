"""The whole job with manifest, audio and store in a bucket that fails for a while: the same rows as on a disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import ray.data

from cluster.fingerprint import run_fingerprint_job
from cluster.summary import JobSummary
from lumina_ray.errors import StorageError
from lumina_ray.storage import RemotePath
from lumina_ray.store import failed_rows, store_status
from tests.cluster.catalog import write_manifest, write_tone
from tests.cluster.reference import all_rows, without_ray
from tests.s3 import S3

pytestmark = pytest.mark.usefixtures("ray_cluster")

SONGS = ("a", "b, größer ♪", "c?", "gone")
FOR_EVER = 1_000_000


@pytest.fixture(scope="module")
def folder(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> RemotePath:
    """Songs, one of which is not there, and their manifest."""
    here = tmp_path_factory.mktemp("songs")
    for seed, song in enumerate(SONGS[:-1]):
        write_tone(here / f"{song}.wav", 1.5, seed=seed)
    write_manifest(here / "manifest.parquet", list(SONGS), [f"{song}.wav" for song in SONGS])
    return s3.upload(here, "a catalog")


@pytest.fixture(scope="module")
def undisturbed(folder: RemotePath, tiny_model_dir: Path) -> pa.Table:
    return without_ray(folder / "manifest.parquet", tiny_model_dir, "influence")


@pytest.fixture
def run(folder: RemotePath, tiny_model_dir: Path, s3: S3) -> Iterator[Callable[[RemotePath], JobSummary]]:
    """The job under test, with one worker; afterwards, the storage works again."""
    manifest, model = folder / "manifest.parquet", str(tiny_model_dir)
    yield lambda store: run_fingerprint_job(manifest, store, model=model, kind="influence", workers=1)
    s3.fail(0)


def test_a_job_in_a_bucket_gets_over_an_outage(
    run: Callable[[RemotePath], JobSummary], folder: RemotePath, undisturbed: pa.Table, s3: S3
) -> None:
    store, failed_before = folder / "störe #1", s3.failed()
    # Requests of Ray's own and of ours: what is asked, read, and written.
    for method, key in (
        ("HEAD", "run.json"),
        ("GET", "a.wav"),
        ("PUT", "/data/"),
        ("PUT", ".pending"),
        ("PUT", "_SUCC"),
    ):
        s3.fail(2, method=method, key=key)
    summary = run(store)
    assert s3.failed() == failed_before + 10
    assert (summary.songs, summary.ok, summary.failed, summary.computed) == (4, 3, 1, 4)
    assert summary.store == str(store)
    assert [(row["song_id"], row["error_code"]) for row in failed_rows(store)] == [("gone", "audio.missing")]
    assert store_status(store).state == "finished"
    assert {path.name for path in store.iterdir()} == {"run.json", "manifest.parquet", "checkpoint", "data", "_SUCCESS"}
    assert all_rows(store).equals(undisturbed)


@pytest.mark.soak
def test_a_store_that_is_down_for_long_ends_the_job_and_the_same_command_goes_on(
    run: Callable[[RemotePath], JobSummary],
    folder: RemotePath,
    undisturbed: pa.Table,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ray's own retries, of minutes, left out.
    monkeypatch.setattr(ray.data.DataContext.get_current(), "retried_io_errors", [])
    store = folder / "store 2"
    s3.fail(FOR_EVER, method="PUT", key="/data/")
    s3.fail(FOR_EVER, method="POST", key="/data/")
    with pytest.raises(
        StorageError, match=r"^s3://lumina/a catalog/store 2\?\S+: the job stopped: .*SLOW_DOWN"
    ) as caught:
        run(store)
    assert len(str(caught.value).splitlines()) == 1
    assert list((store / "data").glob("*.parquet")) == []
    assert (store_status(store).state, store_status(store).ok) == ("unfinished", 0)
    s3.fail(0)
    assert run(store).ok == 3
    assert all_rows(store).equals(undisturbed)


@pytest.mark.soak
def test_songs_that_are_out_of_reach_for_long_end_the_job_and_fail_none(
    run: Callable[[RemotePath], JobSummary], folder: RemotePath, undisturbed: pa.Table, s3: S3
) -> None:
    store = folder / "store 3"
    s3.fail(FOR_EVER, key="c%3F.wav")
    s3.fail(FOR_EVER, key="c?.wav")
    with pytest.raises(StorageError, match=r"^s3://lumina/a catalog/c\?\.wav\?\S+: the storage .*503") as caught:
        run(store)
    assert len(str(caught.value).splitlines()) == 1
    assert "worker.failed" not in store_status(store).failures
    s3.fail(0)
    assert run(store).ok == 3
    assert all_rows(store).equals(undisturbed)
