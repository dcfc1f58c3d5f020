"""The whole job with manifest, audio and store in a bucket that fails for a while: the same rows as on a disk."""

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.fingerprint import run_fingerprint_job
from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.fingerprint import Specification
from lumina_ray.model import open_model
from lumina_ray.store import FingerprintWorker, failed_rows, store_status
from tests.cluster.catalog import write_manifest, write_tone
from tests.cluster.reference import all_rows
from tests.s3 import S3

pytestmark = pytest.mark.usefixtures("ray_cluster")

SONGS = ("a", "b, größer ♪", "c?", "gone")


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> str:
    return str(tiny_model_dir)


def test_a_job_in_a_bucket_gets_over_an_outage(s3: S3, model: str, tmp_path: Path) -> None:
    for seed, song in enumerate(SONGS[:-1]):
        write_tone(tmp_path / f"{song}.wav", 1.5, seed=seed)
    write_manifest(tmp_path / "manifest.parquet", list(SONGS), [f"{song}.wav" for song in SONGS])
    folder = s3.upload(tmp_path, "a catalog")
    store = folder / "störe #1"

    failed_before = s3.failed()
    # Requests of Ray's own and of ours: what is asked, read, and written.
    for method, key in (
        ("HEAD", "run.json"),
        ("GET", "a.wav"),
        ("PUT", "/data/"),
        ("PUT", ".pending"),
        ("PUT", "_SUCC"),
    ):
        s3.fail(2, method=method, key=key)
    summary = run_fingerprint_job(folder / "manifest.parquet", store, model=model, kind="influence", workers=1)
    assert s3.failed() == failed_before + 10

    assert (summary.songs, summary.ok, summary.failed, summary.computed) == (4, 3, 1, 4)
    assert summary.store == str(store)
    assert [(row["song_id"], row["error_code"]) for row in failed_rows(store)] == [("gone", "audio.missing")]
    assert store_status(store).state == "finished"
    assert {path.name for path in store.iterdir()} == {"run.json", "manifest.parquet", "checkpoint", "data", "_SUCCESS"}

    specification = Specification.for_model(open_model(model), "influence")
    worker = FingerprintWorker(model, specification.to_dict())
    undisturbed: pa.Table = worker(decode_rows(read_manifest(folder / "manifest.parquet"))).sort_by("song_id")
    assert all_rows(store).equals(undisturbed)

    again = run_fingerprint_job(folder / "manifest.parquet", store, model=model, kind="influence", workers=1)
    assert again.computed == 0
