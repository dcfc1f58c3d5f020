"""A driver that is stopped in the middle of a job, and the same job again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.fingerprint import run_fingerprint_job
from lumina_ray.store import StoreCounter, read_store, store_status
from lumina_ray.store.run import CHECKPOINT_FOLDER, DATA_FOLDER, SUCCESS_FILE
from tests.cluster.catalog import write_manifest, write_tone
from tests.cluster.processes import actors, wait_until_gone

N_SONGS = 24


def committed(store: Path) -> list[Path]:
    """Checkpoint files of blocks whose songs are stored for good."""
    return [path for path in (store / CHECKPOINT_FOLDER).glob("*.parquet") if ".pending" not in path.name]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_stopped_job_goes_on_with_what_is_missing(ray_cluster: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    write_tone(tmp_path / "tone.wav", 8)
    ids = [f"song {i:02}" for i in range(N_SONGS)]
    manifest = write_manifest(tmp_path / "manifest.parquet", ids, ["tone.wav"] * N_SONGS)
    store = tmp_path / "store"
    job = [str(manifest), "--out", str(store), "--model", str(tiny_model_dir), "--workers", "1"]
    # Of a job of this very process, which keeps them for a while after a failure.
    others = actors(ray_cluster)
    for stop, exit_code, last_words in (
        (signal.SIGTERM, 143, "lumina: stopped by SIGTERM: "),
        (signal.SIGINT, 130, "lumina: stopped by Ctrl-C: "),
    ):
        stored = len(committed(store))
        driver = subprocess.Popen(
            [sys.executable, "-m", "lumina_ray", "fingerprint", *job],
            env=os.environ | {"RAY_ADDRESS": ray_cluster},
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(committed(store)) == stored and driver.poll() is None:
            time.sleep(0.05)
        driver.send_signal(stop)
        said = driver.communicate()[1]
        assert driver.returncode == exit_code, said
        *_, last = said.splitlines()
        assert last.startswith(last_words), said
        assert f" of {N_SONGS} songs are stored, and the same command goes on from there" in last
        assert "stack trace" not in said.lower()
        # Tasks of a driver that is gone may still commit what they had in hand.
        wait_until_gone(ray_cluster, others)
        assert store_status(store).state == "unfinished"

    first_files = {path: path.stat().st_mtime_ns for path in committed(store)}
    before = StoreCounter(store).count().songs
    assert 0 < before < N_SONGS
    assert not (store / SUCCESS_FILE).exists()

    summary = run_fingerprint_job(manifest, store, model=str(tiny_model_dir), kind="influence", workers=1)

    assert read_store(store).song_ids == ids
    assert summary.computed == N_SONGS - before
    assert {path: path.stat().st_mtime_ns for path in first_files} == first_files
    assert not list((store / CHECKPOINT_FOLDER).glob("*.pending*"))
    assert len(list((store / DATA_FOLDER).glob("*.parquet"))) == len(committed(store))
