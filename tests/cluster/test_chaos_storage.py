"""Storage that is full, read-only, damaged or taken, a clock that jumps: the same rows in the end, or a clear word."""

import functools
import itertools
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import pipeline
from cluster.fingerprint import run_fingerprint_job
from cluster.summary import JobSummary
from lumina_ray.cli.exits import exit_code
from lumina_ray.errors import LuminaError, StoreBusy, StoreError
from lumina_ray.store import exclusive, store_status
from tests.cluster.catalog import write_manifest, write_tone
from tests.cluster.killable import KilledOnce, WritesNoMore
from tests.cluster.reference import all_rows, without_ray

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("ray_cluster")]

N_SONGS = 12


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chaos")
    ids = ["victim" if i == 1 else f"song {i:02}" for i in range(N_SONGS)]
    for i, song_id in enumerate(ids):
        write_tone(folder / f"{song_id}.wav", 1.5, seed=i)
    return write_manifest(folder / "manifest.parquet", ids, [f"{song_id}.wav" for song_id in ids])


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tiny_model_dir: Path) -> pa.Table:
    return without_ray(manifest, tiny_model_dir, "influence")


@pytest.fixture
def run(tiny_model_dir: Path) -> Callable[[Path, Path], JobSummary]:
    """The job under test, with one worker, from a manifest or from a store that has the codes."""
    return lambda source, out: run_fingerprint_job(source, out, model=str(tiny_model_dir), kind="influence", workers=1)


@pytest.fixture(scope="module")
def finished(manifest: Path, tiny_model_dir: Path) -> Path:
    """A store whose worker was killed on the way, in the middle of a batch."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "FingerprintWorker", KilledOnce)
        store = manifest.parent / "store"
        run_fingerprint_job(manifest, store, model=str(tiny_model_dir), kind="influence", workers=1)
    return store


def test_a_worker_killed_in_mid_batch_changes_nothing(finished: Path, manifest: Path, undisturbed: pa.Table) -> None:
    assert (manifest.parent / "killed once").exists()
    assert all_rows(finished).equals(undisturbed)


def test_a_truncated_part_is_made_again(
    finished: Path, manifest: Path, undisturbed: pa.Table, run: Callable[[Path, Path], JobSummary]
) -> None:
    part = min((finished / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(StoreError, match="damaged data"):
        all_rows(finished)
    (finished / "_SUCCESS").unlink()
    summary = run(manifest, finished)
    assert not part.exists()
    assert 0 < summary.computed < N_SONGS
    assert all_rows(finished).equals(undisturbed)


def test_a_second_job_on_a_store_is_refused_at_once(
    manifest: Path, tmp_path: Path, run: Callable[[Path, Path], JobSummary]
) -> None:
    begin_s = time.monotonic()
    with exclusive(tmp_path), pytest.raises(StoreBusy, match=r"another job is filling it \(.*process"):
        run(manifest, tmp_path)
    assert time.monotonic() - begin_s < 30
    assert not (tmp_path / "run.json").exists()


def test_a_clock_that_jumps_changes_nothing(
    finished: Path,
    undisturbed: pa.Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Path, Path], JobSummary],
) -> None:
    """A day forwards, and then two days back, while the job runs."""
    read, days = time.time, itertools.chain([0] * 20, [1] * 20, itertools.repeat(-1))
    monkeypatch.setattr(time, "time", lambda: read() + 86_400 * next(days))
    run(finished, tmp_path / "store")
    assert next(days) == -1, "the clock should have jumped twice"
    monkeypatch.undo()
    assert all_rows(tmp_path / "store").equals(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full after a few songs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=240k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk takes more rights than there are here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def remount(disk: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(["remount", *options]), disk], check=True)


def test_a_disk_that_is_full_and_then_read_only_stops_the_job_and_loses_nothing(
    finished: Path,
    undisturbed: pa.Table,
    small_disk: Path,
    run: Callable[[Path, Path], JobSummary],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A disk that is too small to begin with is refused; this one fills while the job runs.
    monkeypatch.setattr("cluster.fingerprint.check_disk", lambda *_: None)
    store = small_disk / "store"
    with pytest.raises(LuminaError, match=r"the job stopped: .*No space left.*the same command goes on") as caught:
        run(finished, store)
    assert exit_code(caught.value) == 1
    stopped = store_status(store)
    assert 0 < stopped.ok < N_SONGS
    assert stopped.failed == 0, "a full disk is no song's fault"

    remount(small_disk, "ro")
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\)"):
        run(finished, store)
    assert store_status(store).ok == stopped.ok, "a read-only store can still be looked at"

    remount(small_disk, "rw", "size=50m")
    data = store / "data"
    with monkeypatch.context() as patched, pytest.raises(LuminaError, match=r"the job stopped: .*Read-only file sys"):
        patched.setattr(pipeline, "FingerprintWorker", functools.partial(WritesNoMore, folder=data))
        run(finished, store)
    assert stopped.ok <= store_status(store).ok < N_SONGS
    assert store_status(store).failed == 0
    subprocess.run(["umount", "--lazy", data], check=True)

    before = store_status(store).ok
    summary = run(finished, store)
    assert summary.computed == N_SONGS - before
    assert all_rows(store).equals(undisturbed)
