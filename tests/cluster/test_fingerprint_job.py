"""The whole job on a real Ray: real files in, one row a song out, the same bits as without Ray."""

import contextlib
import functools
import io
import re
import shutil
import time
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from rich.console import Console

from cluster import fingerprint, pipeline, preflight
from cluster.decode import decode_guarded
from cluster.fingerprint import run_fingerprint_job
from cluster.inputs import read_songs
from cluster.summary import JobSummary
from lumina_ray.catalog import read_manifest
from lumina_ray.cli.exits import exit_code
from lumina_ray.errors import (
    ClusterError,
    NumericsError,
    SpecificationMismatch,
    StoreError,
    TooManyFailures,
    UsageError,
)
from lumina_ray.fingerprint import Fingerprint
from lumina_ray.store import FingerprintWorker, StoreCounter, has_codes, read_store
from tests.cluster.catalog import BAD, GOOD, write_catalog, write_manifest, write_tone
from tests.cluster.faults import decode_with_faults
from tests.cluster.killable import Killable
from tests.cluster.reference import all_rows, without_ray

pytestmark = pytest.mark.usefixtures("ray_cluster")

ALL_MAY_FAIL = 1.0


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("a catalog with spaces"))


@pytest.fixture(scope="module")
def counted_before() -> dict[str, float]:
    return scraped()


@pytest.fixture(scope="module")
def finished(counted_before: dict[str, float], manifest: Path, tiny_model_dir: Path) -> tuple[Path, JobSummary, str]:
    """A store that a job with two workers made, what the job answered, and what it said."""
    store = manifest.parent / "störe #1"
    said = io.StringIO()
    summary = run_fingerprint_job(
        manifest,
        store,
        model=str(tiny_model_dir),
        kind="influence",
        max_failed_fraction=ALL_MAY_FAIL,
        console=Console(file=said),
    )
    return store, summary, said.getvalue()


def test_every_song_has_one_row_and_bad_ones_say_why(finished: tuple[Path, JobSummary, str]) -> None:
    store, summary, _ = finished
    read = read_store(store)
    assert read.song_ids == sorted(GOOD)
    assert dict(zip(read.failed["song_id"].to_pylist(), read.failed["error_code"].to_pylist(), strict=True)) == BAD
    assert all("wav" in error for error in read.failed["error"].to_pylist())
    assert read.songs["title"].to_pylist() == [song_id.upper() for song_id in sorted(GOOD)]
    assert (summary.songs, summary.ok, summary.failed, summary.computed) == (9, 3, 6, 9)
    assert summary.audio_s == pytest.approx(23)
    assert {failure.song_id: failure.error_code for failure in summary.failures} == BAD


def test_prometheus_sees_the_job(finished: tuple[Path, JobSummary, str], counted_before: dict[str, float]) -> None:
    """Before another test's job counts as well."""
    _, summary, _ = finished
    assert summary.wait_fraction is not None
    assert 0 < summary.wait_fraction < 1
    end_s = time.monotonic() + 60

    def counted() -> dict[str, float]:
        return {name: value - counted_before.get(name, 0) for name, value in scraped().items()}

    # Each process exports its own when it likes: those that decode, and those that fingerprint.
    while min((added := counted()).get(f"ray_lumina_{name}_total", 0) for name in ("songs", "decoded_songs")) < 9:
        assert time.monotonic() < end_s, added
        time.sleep(1)
    assert added["ray_lumina_songs_total"] == added["ray_lumina_decoded_songs_total"] == 9
    assert added["ray_lumina_audio_seconds_total"] == pytest.approx(23)
    assert added["ray_lumina_failures_total"] == len(BAD)
    assert added["ray_lumina_busy_seconds_total"] > 0
    assert added["ray_lumina_wait_seconds_total"] > 0
    assert added["ray_lumina_songs_in_flight"] == 0


def scraped() -> dict[str, float]:
    """Our metrics as this machine exports them, summed over processes and tags."""
    (node,) = ray.nodes()
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics").text
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("ray_lumina_"):
            name, value = re.split(r"[{ ]", line)[0], line.rpartition(" ")[2]
            found[name] = found.get(name, 0) + float(value)
    return found


def test_says_aloud_what_it_runs_on_and_what_failed(finished: tuple[Path, JobSummary, str]) -> None:
    _, summary, said = finished
    assert "CPU, not on a GPU: 2 workers" in said
    phases = [
        said.index(phase) for phase in ("Opening the model ", "Loading the model in 2 workers.", "Fingerprinting ")
    ]
    assert phases == sorted(phases)
    assert said.count("failed: ") == len(BAD)
    assert "3 songs, 6 failed" in summary.sentence


def test_rows_are_bit_identical_to_a_single_process(
    finished: tuple[Path, JobSummary, str], manifest: Path, tiny_model_dir: Path
) -> None:
    assert all_rows(finished[0]).equals(without_ray(manifest, tiny_model_dir, "influence"))


def test_codes_of_a_store_give_other_fingerprints_of_its_audio(
    finished: tuple[Path, JobSummary, str], manifest: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    summary = run_fingerprint_job(
        finished[0],
        tmp_path / "stats",
        model=str(tiny_model_dir),
        kind="stats",
        channels=("P",),
        dtype="bfloat16",
        workers=1,
        max_failed_fraction=ALL_MAY_FAIL,
    )
    assert (summary.ok, summary.failed) == (3, 6)
    expected = without_ray(manifest, tiny_model_dir, "stats", ("P",), "bfloat16")
    assert "M" not in expected.column_names
    assert all_rows(tmp_path / "stats").equals(expected)


def test_an_embedder_fingerprints_the_codes_of_a_store_and_its_licence_is_said(
    finished: tuple[Path, JobSummary, str], tiny_model_dir: Path, tmp_path: Path
) -> None:
    said = io.StringIO()
    summary = run_fingerprint_job(
        finished[0],
        tmp_path / "store",
        model=str(tiny_model_dir),
        kind="embedding:musicnn",
        channels=("P",),
        max_failed_fraction=ALL_MAY_FAIL,
        console=Console(file=said, width=200),
    )
    assert (summary.ok, summary.failed) == (3, 6)
    assert read_store(tmp_path / "store").vectors("P").shape == (3, 200)
    assert "The fingerprints are made with weights of musicnn, whose licence is ISC." in said.getvalue()


def test_codes_in_a_manifest_are_of_nobody_knows_which_model(
    finished: tuple[Path, JobSummary, str], tmp_path: Path
) -> None:
    """Rows of stores put together, or the manifest of a store that was made of a store."""
    pq.write_table(read_store(finished[0]).songs, tmp_path / "rows.parquet")
    assert has_codes(read_songs(finished[0]))
    assert not has_codes(read_songs(tmp_path / "rows.parquet"))


def test_a_store_of_more_codes_than_memory_is_refused(
    finished: tuple[Path, JobSummary, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_COPIES_OF_CODES", 1 << 40)
    with pytest.raises(UsageError, match=r"its codes are 0\.0 GiB, .* give its manifest\.parquet"):
        read_songs(finished[0])


def test_what_a_manifest_says_of_songs_cannot_change_under_way(
    finished: tuple[Path, JobSummary, str], manifest: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    songs = read_manifest(manifest)
    place = songs.schema.get_field_index("title")
    songs = songs.set_column(place, "title", pa.array([*songs["title"].to_pylist()[:-1], "Another"]))
    changed = tmp_path / "changed.parquet"
    pq.write_table(songs, changed)
    with pytest.raises(SpecificationMismatch, match=r"1 songs have another title .*, now 'Another'"):
        run_fingerprint_job(changed, finished[0], model=str(tiny_model_dir), kind="influence")


def test_finished_store_is_left_alone(
    finished: tuple[Path, JobSummary, str], manifest: Path, tiny_model_dir: Path
) -> None:
    store = finished[0]
    files = {path: path.stat().st_mtime_ns for path in store.rglob("*.parquet")}
    again = run_fingerprint_job(
        manifest, store, model=str(tiny_model_dir), kind="influence", max_failed_fraction=ALL_MAY_FAIL
    )
    assert again.computed == 0
    assert "nothing to do" in again.sentence
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.parquet")} == files


def test_too_many_failures_is_an_error_after_everything_is_stored(
    finished: tuple[Path, JobSummary, str], manifest: Path, tiny_model_dir: Path
) -> None:
    with pytest.raises(TooManyFailures, match=r"6 of 9 songs failed.*50%") as caught:
        run_fingerprint_job(manifest, finished[0], model=str(tiny_model_dir), kind="influence")
    assert exit_code(caught.value) == 3
    assert len(read_store(finished[0]).failed) == 6


def test_another_specification_does_not_enter_a_store(
    finished: tuple[Path, JobSummary, str], manifest: Path, tiny_model_dir: Path
) -> None:
    with pytest.raises(SpecificationMismatch, match="choose another --out"):
        run_fingerprint_job(manifest, finished[0], model=str(tiny_model_dir), kind="jl")


def test_gpus_that_are_not_there_are_refused_at_once(manifest: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    begin_s = time.monotonic()
    with pytest.raises(ClusterError, match=r"3 GPUs wanted, the Ray cluster has 0 \(\S+: 0\).*--device cpu") as caught:
        run_fingerprint_job(
            manifest, tmp_path / "store", model=str(tiny_model_dir), kind="influence", device="cuda", workers=3
        )
    assert time.monotonic() - begin_s < 30
    assert exit_code(caught.value) == 4
    assert not (tmp_path / "store").exists()


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, manifest: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Three songs of 23 s together have 2 × 4096 numbers each, and 4 × 50 codes of two bytes a second."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 3 * 2 * 4096 * 4 + 23 * 400))
    with pytest.raises(ClusterError, match=r"about 0\.2 MB will be written, .* has 0\.1 MB free") as caught:
        run_fingerprint_job(manifest, tmp_path / "store", model=str(tiny_model_dir), kind="influence")
    assert exit_code(caught.value) == 4
    assert not (tmp_path / "store").exists()


def test_more_workers_than_cpus_are_refused(manifest: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="3 workers wanted, the Ray cluster has 2 CPUs: pass --workers 2"):
        run_fingerprint_job(manifest, tmp_path, model=str(tiny_model_dir), kind="influence", workers=3)


def test_ray_hands_out_the_gpus(manifest: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cuda:1"):
        run_fingerprint_job(manifest, tmp_path, model=str(tiny_model_dir), kind="influence", device="cuda:1")


@pytest.mark.chaos
def test_songs_that_crash_or_hang_or_confuse_a_decoder_fail_alone(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> None:
    write_tone(tmp_path / "tone.wav", 1.5)
    names = {3: "crash.wav", 9: "bug.wav", 12: "hang.wav"}
    paths = [names.get(i, "tone.wav") for i in range(16)]
    manifest = write_manifest(tmp_path / "manifest.parquet", [f"song {i:02}" for i in range(16)], paths)
    monkeypatch.setattr(pipeline, "decode_guarded", functools.partial(decode_guarded, limit_s=10))
    monkeypatch.setattr(pipeline, "decode_rows", decode_with_faults)
    summary = run_fingerprint_job(manifest, tmp_path / "store", model=str(tiny_model_dir), kind="influence", workers=1)
    assert (summary.ok, summary.failed) == (13, 3)
    assert {failure.song_id: failure.error_code for failure in summary.failures} == {
        "song 03": "audio.crash",
        "song 09": "audio.crash",
        "song 12": "audio.timeout",
    }


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_song_that_kills_every_worker_fails_alone(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> None:
    write_tone(tmp_path / "tone.wav", 1.5)
    ids = ["killer" if i == 6 else f"song {i:02}" for i in range(16)]
    manifest = write_manifest(tmp_path / "manifest.parquet", ids, ["tone.wav"] * 16)
    monkeypatch.setattr(pipeline, "FingerprintWorker", Killable)
    # Each would only start another worker: tests/cluster/test_chaos_storage.py has one that is killed once.
    monkeypatch.setattr(pipeline, "_RETRIES", 0)
    summary = run_fingerprint_job(manifest, tmp_path / "store", model=str(tiny_model_dir), kind="influence", workers=1)
    assert (summary.ok, summary.failed) == (15, 1)
    assert [(failure.song_id, failure.error_code) for failure in summary.failures] == [("killer", "worker.failed")]


class Liar(FingerprintWorker):
    """A worker whose numbers are not what they are said to be, if it is the first of its job that gets a song."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        with contextlib.suppress(FileExistsError):
            Path(rows["path"][0].as_py()).with_name("liar").touch(exist_ok=False)
            honest = self.fingerprinter.many

            def mirrored(songs):
                for made in honest(songs):
                    yield Fingerprint(
                        {c: -vector for c, vector in made.vectors.items()}, {}, made.chunk_weights, made.norms
                    )

            self.fingerprinter.many = mirrored  # type: ignore[method-assign, assignment]
        return super().__call__(rows)


@pytest.mark.chaos
def test_one_bad_worker_stops_the_job_at_once_and_for_good(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> None:
    write_tone(tmp_path / "tone.wav", 8)
    ids = [f"song {i:02}" for i in range(40)]
    manifest = write_manifest(tmp_path / "manifest.parquet", ids, ["tone.wav"] * 40)
    store = tmp_path / "store"
    monkeypatch.setattr(pipeline, "FingerprintWorker", Liar)
    with pytest.raises(NumericsError, match=r"song \d\d: .* computed twice differs .* delete it"):
        run_fingerprint_job(manifest, store, model=str(tiny_model_dir), kind="influence", workers=2)
    assert StoreCounter(store).count().songs < 40
    with pytest.raises(StoreError, match="not finished"):
        read_store(store)
    monkeypatch.undo()
    with pytest.raises(NumericsError, match=r"song \d\d: .* computed twice differs .* delete it"):
        run_fingerprint_job(manifest, store, model=str(tiny_model_dir), kind="influence", workers=2)


class Stumbler(FingerprintWorker):
    """A worker with a bug that one song shows."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        if "telephone" in rows["song_id"].to_pylist():
            raise RuntimeError("a bug")
        return super().__call__(rows)


def test_a_worker_that_raises_costs_one_song_and_does_not_hang_the_job(
    finished: tuple[Path, JobSummary, str], monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """With two workers: those of the first pass once kept the CPUs that the second waited for."""
    monkeypatch.setattr(pipeline, "FingerprintWorker", Stumbler)
    store = tmp_path / "store"
    summary = run_fingerprint_job(
        finished[0], store, model=str(tiny_model_dir), kind="influence", workers=2, max_failed_fraction=ALL_MAY_FAIL
    )
    assert (summary.songs, summary.ok) == (9, 2)
    (lost,) = (failure for failure in summary.failures if failure.song_id == "telephone")
    assert lost.error_code == "worker.failed"
    assert "RuntimeError: a bug" in lost.error


def test_a_worker_on_another_kind_of_machine_ends_the_job(
    finished: tuple[Path, JobSummary, str], monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Other than the one that the model was described on, before anything was begun."""
    describe = fingerprint.describe_model

    def elsewhere(*args):
        specification, environment = describe(*args)
        return specification, environment | {"device": "another processor"}

    monkeypatch.setattr(fingerprint, "describe_model", elsewhere)
    with pytest.raises(SpecificationMismatch, match=r"has device = .*, the run has another processor: ") as caught:
        run_fingerprint_job(finished[0], tmp_path / "store", model=str(tiny_model_dir), kind="influence", workers=2)
    assert len(str(caught.value).splitlines()) == 1
    assert StoreCounter(tmp_path / "store").count().songs == 0
