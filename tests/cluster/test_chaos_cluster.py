"""A driver and a node that are killed, on a cluster of three nodes: the rows in the end are those of one process.

And a GPU that somebody else holds.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from ray.job_submission import JobStatus, JobSubmissionClient

from lumina_ray.store import store_status
from tests.cluster.catalog import write_manifest, write_tone
from tests.cluster.nodes import Nodes, three_nodes
from tests.cluster.processes import actors, processes, wait_until_gone
from tests.cluster.reference import all_rows, without_ray

pytestmark = pytest.mark.chaos

N_SONGS = 24
HOLD_THE_GPU = """
import ray
ray.init(log_to_driver=False)
holder = ray.remote(num_cpus=0, num_gpus=1)(type("Holder", (), {})).remote()
ray.get(holder.__ray_ready__.remote())
print("held", flush=True)
input()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with three_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chaos")
    ids = [f"song {i:02}" for i in range(N_SONGS)]
    for i, song_id in enumerate(ids):
        write_tone(folder / f"{song_id}.wav", 1.5, seed=i)
    return write_manifest(folder / "manifest.parquet", ids, [f"{song_id}.wav" for song_id in ids])


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tiny_model_dir: Path) -> pa.Table:
    return without_ray(manifest, tiny_model_dir, "influence")


def wait_for_commits(store: Path, n_songs: int, limit_s: float = 500) -> None:
    end_s = time.monotonic() + limit_s
    while not (store / "run.json").exists() or store_status(store).ok < n_songs:
        assert time.monotonic() < end_s, "the job does not get on"
        time.sleep(0.05)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_driver_and_then_a_node_are_killed_and_no_song_is_lost(
    cluster: Nodes, manifest: Path, undisturbed: pa.Table, tiny_model_dir: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    jobs = JobSubmissionClient(f"http://{cluster.dashboard}")
    words = ["-m", "lumina_ray", "fingerprint", str(manifest), "--out", str(store), "--model", str(tiny_model_dir)]
    command = " ".join([sys.executable, *words, "--device", "cpu", "--workers", "1"])
    first = jobs.submit_job(entrypoint=command)
    wait_for_commits(store, 1)
    for driver in processes(str(store), "lumina_ray fingerprint"):
        os.kill(driver, signal.SIGKILL)
    assert ended(jobs, first) == JobStatus.FAILED
    # They live on for some seconds, and commit what they are at.
    wait_until_gone(cluster.address, {})
    before = store_status(store)
    assert 0 < before.ok < N_SONGS
    assert before.state == "unfinished"

    second = jobs.submit_job(entrypoint=command)
    wait_for_commits(store, before.ok + 1)
    # A node is what its raylet keeps going: all of its processes end with that.
    (node,) = set(actors(cluster.address).values())
    os.kill(node, signal.SIGKILL)
    assert store_status(store).ok < N_SONGS, "the job was over before its node died"
    assert ended(jobs, second) == JobStatus.SUCCEEDED, jobs.get_job_logs(second)
    assert f"{N_SONGS} songs, 0 failed" in jobs.get_job_logs(second)
    assert all_rows(store).equals(undisturbed)


def ended(jobs: JobSubmissionClient, submission: str, limit_s: float = 300) -> JobStatus:
    end_s = time.monotonic() + limit_s
    while not (status := jobs.get_job_status(submission)).is_terminal():
        assert time.monotonic() < end_s, jobs.get_job_logs(submission)
        time.sleep(0.2)
    return status


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU that is none would be one")
def test_a_gpu_that_others_hold_is_waited_for_and_that_is_said(
    cluster: Nodes, manifest: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """When it is free, the job begins: it finds that the GPU is none."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_GPU],
        env=cluster.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    job = [str(manifest), "--out", str(tmp_path / "store"), "--model", str(tiny_model_dir), "--device", "cuda"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "lumina_ray", "fingerprint", *job],
        env=cluster.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stderr
    waiting = next(line for line in driver.stderr if "free now" in line)
    assert "0 of the 1 GPUs that are wanted are free now" in waiting
    assert driver.poll() is None
    holder.communicate("\n")
    said = driver.stderr.read()
    assert driver.wait() == 4, said
    assert "offers a GPU to Ray, but torch" in said
