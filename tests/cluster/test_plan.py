"""What is planned from, and a plan of a real catalog against the job that it is for."""

from pathlib import Path

import pytest

from cluster.fingerprint import run_fingerprint_job
from cluster.plan import plan_job
from lumina_ray.errors import ClusterError, ManifestError
from tests.cluster.catalog import write_manifest, write_tone


def test_a_plan_says_what_the_job_then_writes(
    ray_cluster: str, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is compared by benchmarks/plan.py, on a machine that does nothing else."""
    monkeypatch.setattr("cluster.plan._MEASURED_S", 1.0)
    for i in range(3):
        write_tone(tmp_path / f"{i}.wav", 8 + 4 * i, seed=i)
    manifest = write_manifest(tmp_path / "manifest.parquet", ["a", "b", "c"], ["0.wav", "1.wav", "2.wav"])
    plan = plan_job(manifest, model=str(tiny_model_dir), kind="influence")
    summary = run_fingerprint_job(manifest, tmp_path / "store", model=str(tiny_model_dir), kind="influence")
    files = [path for path in (tmp_path / "store").rglob("*.parquet") if path.name != "manifest.parquet"]
    assert plan.audio_s == pytest.approx(summary.audio_s)
    assert (plan.songs, plan.chunks, plan.unusable) == (3, 1 + 1 + 2, 0)
    # A random codec repeats itself, and its codes compress.
    assert plan.disk_bytes == pytest.approx(sum(path.stat().st_size for path in files), rel=0.1)
    assert (plan.device, plan.workers, plan.decoders) == (summary.device, summary.workers, summary.decoders)
    assert 0 < plan.duration.total.low < plan.duration.total.expected < plan.duration.total.high
    assert plan.decoded_bytes == pytest.approx(2 * 32_000 * plan.audio_s)
    assert {what for what, _, _ in plan.rows()} == {"songs", "time", "memory", "object store", "disk"}


def test_gpus_cannot_be_planned_for_without_one(ray_cluster: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.parquet", ["a"], ["missing.wav"])
    with pytest.raises(ClusterError, match="1 GPUs wanted, the Ray cluster has 0"):
        plan_job(manifest, model=str(tiny_model_dir), kind="stats", gpus=8)


def test_a_catalog_without_audio_is_said_to_be_one(ray_cluster: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.parquet", ["a"], ["missing.wav"])
    with pytest.raises(ManifestError, match=r"none of 1 songs .* has audio, such as: .*missing\.wav"):
        plan_job(manifest, model=str(tiny_model_dir), kind="stats")
