"""Manifests, audio and stores in a bucket of a real S3-compatible server, and what happens when that fails."""

import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import obstore
import pyarrow as pa
import pytest

from lumina_ray import storage
from lumina_ray.audio import load_audio, load_chunks
from lumina_ray.calibration import calibrate_store, read_calibration, write_calibration
from lumina_ray.catalog import decode_rows, read_manifest, write_manifest
from lumina_ray.cli.main import run
from lumina_ray.errors import (
    AudioError,
    ManifestError,
    SpecificationMismatch,
    StorageError,
    StorageRefused,
    StoreBusy,
    StoreError,
    UsageError,
)
from lumina_ray.files import atomic_path
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.storage import RemotePath, local, locate
from lumina_ray.store import (
    Run,
    begin_run,
    condemn,
    drop_damaged,
    exclusive,
    failed_rows,
    finish_commits,
    lease,
    open_store,
    read_run,
    store_status,
)
from lumina_ray.store.signature import signature
from tests.calibration.synthetic import demo_stores
from tests.cluster.catalog import write_tone
from tests.s3 import CREDENTIALS, S3
from tests.store.test_status import SPECIFICATION, write_part


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, s3: S3):
    """Two attempts for each request, and a server that works again afterwards."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    storage._filesystem.cache_clear()
    yield
    s3.fail(0)
    storage._filesystem.cache_clear()


def test_addresses_and_paths_are_told_apart(tmp_path) -> None:
    assert locate(str(tmp_path)) == locate(tmp_path) == locate(PurePath(tmp_path)) == tmp_path
    place = locate("s3://bucket/a/Who are you?.flac?region=eu-west-1&scheme=http")
    assert isinstance(place, RemotePath)
    assert (place.key, place.options) == ("bucket/a/Who are you?.flac", "region=eu-west-1&scheme=http")
    assert (place.name, place.suffix, place.parent.key) == ("Who are you?.flac", ".flac", "bucket/a")
    assert locate(str(place)) == place
    assert str(locate("gs://bucket/songs/") / "../b #1.wav") == "gs://bucket/b #1.wav"
    assert str(locate("s3://bucket/a//c.wav")) == "s3://bucket/a//c.wav"
    with pytest.raises(UsageError, match=r"\.\./\.\./other/b\.wav: leads out of the bucket bucket"):
        locate("s3://bucket/songs") / "../../other/b.wav"
    assert pickle.loads(pickle.dumps(place)) == place


@pytest.mark.parametrize(
    "text",
    ["http://host/x", "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/x?region=r&secret_key=secret"],
)
def test_other_addresses_are_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(text)
    assert "=secret" not in str(caught.value)
    assert ":secret" not in str(caught.value)


def test_attempts_are_a_number(monkeypatch: pytest.MonkeyPatch, impatient) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(UsageError, match="AWS_MAX_ATTEMPTS must be a number from 1 on, got 'many'"):
        locate("s3://bucket/store").exists()


def test_misspelt_options_and_places_that_must_be_local_say_so() -> None:
    with pytest.raises(UsageError, match="region"):
        locate("gs://bucket/x?region=1").exists()
    with pytest.raises(UsageError, match="must lie on a file system"):
        local("s3://bucket/catalog")


def test_the_verbs_of_a_path(s3: S3, tmp_path) -> None:
    folder = s3.path("verbs ö/a?&#%20")
    assert not folder.exists()
    assert list(folder.iterdir()) == []
    (folder / "b.txt").write_text("größer")
    (folder / "c/d.txt").touch()
    assert (folder / "b.txt").read_text() == "größer"
    assert (folder / "b.txt").stat().st_size == 8
    assert folder.is_dir()
    assert not folder.is_file()
    assert sorted(folder.iterdir()) == [folder / "b.txt", folder / "c"]
    assert list(folder.glob("*.txt")) == [folder / "b.txt"]
    (tmp_path / "f").write_bytes(bytes(range(256)) * 80_000)
    (folder / "f").upload(tmp_path / "f")
    (folder / "f").download(tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()
    (folder / "b.txt").unlink()
    (folder / "b.txt").unlink(missing_ok=True)
    for missing in ((folder / "b.txt").unlink, (folder / "b.txt").read_bytes):
        with pytest.raises(FileNotFoundError):
            missing()


def test_what_is_half_written_is_never_there(s3: S3) -> None:
    path = s3.path("half/x.txt")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of")
        raise RuntimeError
    assert list(s3.path("half").iterdir()) == []


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_manifests_are_read_from_a_bucket_and_name_places_in_it(s3: S3, ending: str) -> None:
    path = s3.path(f"catalog/songs.{ending}")
    paths = ["a.wav", "../b/Ω?.wav", "/mnt/c.wav", "s3://other/d.wav"]
    write_manifest(pa.table({"song_id": list("abcd"), "path": paths}), path)
    assert read_manifest(path)["path"].to_pylist() == [
        *(str(s3.path(key)) for key in ("catalog/a.wav", "b/Ω?.wav")),
        "/mnt/c.wav",
        "s3://other/d.wav",
    ]


def test_manifests_that_are_not_there_or_name_no_place_say_so(s3: S3) -> None:
    with pytest.raises(ManifestError, match=r"s3://lumina/none.parquet\?.*no such file"):
        read_manifest(s3.path("none.parquet"))
    write_manifest(pa.table({"song_id": ["a"], "path": ["http://a/b.wav"]}), s3.path("odd/songs.csv"))
    with pytest.raises(ManifestError, match=r"http://a/b.wav is neither"):
        read_manifest(s3.path("odd/songs.csv"))


def test_audio_in_a_bucket_is_the_audio_of_the_file(s3: S3, tmp_path) -> None:
    write_tone(tmp_path / "tone.flac", 2)
    s3.path("audio/tone.flac").upload(tmp_path / "tone.flac")
    here, there = load_audio(tmp_path / "tone.flac"), load_audio(s3.path("audio/tone.flac"))
    assert here.sha256 == there.sha256
    np.testing.assert_array_equal(here.samples, there.samples)
    with pytest.raises(AudioError, match="more than the limit") as caught:
        load_audio(s3.path("audio/tone.flac"), max_bytes=1000)
    assert caught.value.code == "audio.too_large"


def test_songs_that_are_missing_or_forbidden_fail_alone(s3: S3, impatient) -> None:
    s3.path("audio/forbidden.wav").write_bytes(b"x")
    songs = [{"song_id": name, "path": str(s3.path(f"audio/{name}.wav"))} for name in ("missing", "forbidden")]
    s3.fail(1, status=403, key="forbidden")
    manifest = s3.path("audio/songs.parquet")
    write_manifest(pa.Table.from_pylist(songs), manifest)
    rows = decode_rows(read_manifest(manifest)).to_pylist()
    assert [row["error_code"] for row in rows] == ["audio.missing", "audio.missing"]
    assert "no such object" in rows[0]["error"]
    assert "access denied" in rows[1]["error"]


def test_a_storage_that_is_down_is_no_songs_fault(s3: S3, impatient) -> None:
    write_manifest(pa.table({"song_id": ["a"], "path": ["a.wav"]}), s3.path("down/songs.csv"))
    manifest = read_manifest(s3.path("down/songs.csv"))
    s3.fail(10)
    with pytest.raises(StorageError, match=r"^s3://lumina/down/a.wav\?\S+: the storage .*503") as caught:
        decode_rows(manifest)
    assert not isinstance(caught.value, StorageRefused)
    assert len(str(caught.value).splitlines()) == 1


def test_a_storage_that_is_down_for_a_while_is_waited_for(s3: S3) -> None:
    before = s3.failed()
    s3.fail(3)
    s3.path("while/x").write_bytes(b"x")
    assert s3.path("while/x").read_bytes() == b"x"
    assert s3.failed() == before + 3


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


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"_SIGN_EVERY_S": 0.2, "_LOOK_EVERY_S": 0.1, "_SETTLED_S": 0.1}.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def rash(hasty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon taken for dead, as living holders can be too on a busy machine: only for tests that have one holder."""
    monkeypatch.setattr(lease, "_SILENT_S", 1.5)


def test_one_job_a_store(s3: S3, hasty) -> None:
    store = s3.path("leased")
    with (
        exclusive(store),
        pytest.raises(StoreBusy, match=r"leased\?.*another job is filling it \(.*process"),
        exclusive(store),
    ):
        pass
    assert not (store / "_LOCK").exists()


def test_a_holder_that_is_silent_is_dead_whatever_its_clock_says(s3: S3, rash) -> None:
    store = s3.path("stale")
    (store / "_LOCK").write_text("elsewhere, process 1, 7")
    begin_s = time.monotonic()
    with exclusive(store):
        assert time.monotonic() - begin_s >= 1.5
        assert "elsewhere" not in (store / "_LOCK").read_text()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "nohup"])
def test_a_job_that_was_taken_for_dead_stops(s3: S3, hasty, handler) -> None:
    store = s3.path("taken")
    before = signal.signal(signal.SIGINT, handler)
    with pytest.raises(StoreBusy, match="elsewhere"), exclusive(store):
        # Again and again: a single write may fall between the holder's look and its own signature.
        for _ in range(300):
            (store / "_LOCK").write_text("elsewhere, process 1, 7")
            time.sleep(0.1)
    assert (store / "_LOCK").read_text() == "elsewhere, process 1, 7"
    assert signal.signal(signal.SIGINT, before) == handler
    (store / "_LOCK").unlink()


def test_a_holder_outlives_an_outage(s3: S3, hasty, impatient) -> None:
    store = s3.path("outage")
    with exclusive(store):
        s3.fail(1_000_000)
        time.sleep(2)
        s3.fail(0)
        signed = (store / "_LOCK").read_text()
        time.sleep(2)
        assert (store / "_LOCK").read_text() != signed


def racing(store: RemotePath, n: int) -> list[bool]:
    """Which of n threads that begin in one instant get a store; none lets go of it before all have tried."""
    begin, end = threading.Barrier(n), threading.Barrier(n)

    def take(_: int) -> bool:
        begin.wait()
        try:
            with exclusive(store):
                end.wait()
        except StoreBusy:
            end.wait()
            return False
        return True

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(take, range(n)))


def test_of_many_that_begin_in_one_instant_exactly_one_gets_the_store(s3: S3, hasty) -> None:
    for number in range(20):
        assert sum(racing(s3.path(f"race/{number}"), 8)) == 1


def test_of_many_that_wait_for_a_dead_one_exactly_one_takes_over(
    s3: S3, hasty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_SILENT_S", 5.0)
    for number in range(2):
        store = s3.path(f"heirs/{number}")
        (store / "_LOCK").write_text("elsewhere, process 1, 7")
        assert sum(racing(store, 8)) == 1
        assert not (store / "_LOCK").exists()


RACE = """
import sys
from lumina_ray.errors import StoreBusy
from lumina_ray.storage import locate
from lumina_ray.store import exclusive, lease
lease._SIGN_EVERY_S, lease._LOOK_EVERY_S = 0.2, 0.1
print("ready", flush=True)
for line in sys.stdin:
    try:
        with exclusive(locate(line.strip())):
            print("held", flush=True)
            sys.stdin.readline()
    except StoreBusy:
        print("busy", flush=True)
        sys.stdin.readline()
    print("done", flush=True)
"""


def test_of_many_processes_exactly_one_gets_the_store(s3: S3) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    jobs = [subprocess.Popen([sys.executable, "-c", RACE], **pipes) for _ in range(3)]  # type: ignore[call-overload]

    def tell(line: str) -> list[str]:
        for job in jobs:
            job.stdin.write(line + "\n")
        return sorted(job.stdout.readline().strip() for job in jobs)

    try:
        assert [job.stdout.readline() for job in jobs] == ["ready\n"] * 3
        for number in range(3):
            assert tell(str(s3.path(f"processes/{number}"))) == ["busy", "busy", "held"]
            assert tell("end") == ["done"] * 3
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def test_a_signature_that_comes_late_is_refused(s3: S3) -> None:
    first, second = signature(s3.path("late/_LOCK")), signature(s3.path("late/_LOCK"))
    assert first.read() is None
    before = second.write("second, 0", None)
    assert before
    assert first.write("first, 0", None) is None
    after = second.write("second, 1", before)
    assert after
    assert first.write("first, 0", before) is None
    assert first.read() == after
    s3.path("late/_LOCK").unlink()
    assert second.write("second, 2", after) is None


def test_a_storage_that_ignores_conditions_is_told_of(
    s3: S3, hasty, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda store, key, data, mode: put(store, key, data))
    with exclusive(s3.path("ignorant")):
        time.sleep(0.5)
    assert "ignorant?" in caplog.text
    assert "its storage ignores If-None-Match; start no second job on it" in caplog.text


def test_an_answer_that_is_lost_costs_nobody_the_lease(s3: S3, hasty, impatient) -> None:
    store, failed = s3.path("answers"), s3.failed()
    s3.fail(1, method="PUT", key="_LOCK", done=True)
    with exclusive(store):
        assert s3.failed() == failed + 1
        s3.fail(1, method="PUT", key="_LOCK", done=True)
        time.sleep(1)
        assert s3.failed() == failed + 2
    assert not (store / "_LOCK").exists()


def test_a_lease_has_the_credentials_and_errors_of_the_rest(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hasty, impatient
) -> None:
    with pytest.raises(StorageError, match=r"^s3://nowhere/store/_LOCK\?\S+: the storage"):
        lease.lease(replace(s3.path("store"), key="nowhere/store")).__enter__()
    s3.fail(1, status=403, key="forbidden")
    with pytest.raises(StorageRefused, match=r"^s3://lumina/forbidden/_LOCK\?\S+: access denied"):
        lease.lease(s3.path("forbidden")).__enter__()
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(StorageRefused, match="no credentials were found"):
        lease.lease(s3.path("credentials")).__enter__()
    assert signature(replace(s3.path("anonymous"), options=f"{s3.path('').options}&anonymous=true")).write("x", None)
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = somebody\naws_secret_access_key = secret\n")
    with lease.lease(s3.path("credentials")):
        pass


def test_an_index_in_a_bucket_answers_as_one_in_a_folder(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hasty, impatient
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    demo_stores(tmp_path)
    catalog, controls = (open_store(s3.upload(tmp_path / name, f"demo/{name}")) for name in ("catalog", "controls"))
    write_calibration(calibrate_store(catalog, controls), catalog.path)
    assert read_calibration(catalog.path).specification_sha256 == catalog.specification.sha256
    here = load_snapshot(build_index(catalog, tmp_path / "index"))
    index = s3.path("demo/index")
    assert build_index(catalog, index) == index / "v0001"
    there = load_snapshot(index)
    assert (there.version, there.record.files) == ("v0001", here.record.files)
    for query in (here.search("P", catalog.vectors("P")[:3], 5), there.search("P", catalog.vectors("P")[:3], 5)):
        np.testing.assert_array_equal(query[1][:, 0], [0, 1, 2])

    # The next is not there until it is whole: what was sent of it is passed over, and its number.
    (index / "v0002/P.faiss").write_bytes(b"half")
    assert load_snapshot(index).version == "v0001"
    assert build_index(catalog, index) == index / "v0003"

    # Nothing is fetched twice, and what is damaged in the cache is fetched again.
    load_snapshot(index)
    (cached,) = (tmp_path / "cache").rglob("v0003/P.faiss")
    s3.fail(1_000_000, method="GET", key=".faiss")
    load_snapshot(index)
    cached.write_bytes(b"damaged")
    with pytest.raises(StorageError, match=r"v0003/P.faiss\?"):
        load_snapshot(index)
    s3.fail(0)
    load_snapshot(index)
    (index / "v0003/P.faiss").write_bytes(b"damaged")
    cached.unlink()
    with pytest.raises(StoreError, match=r"v0003/P.faiss\?.* is damaged"):
        load_snapshot(index)


def test_an_index_of_a_living_catalog_is_refused(s3: S3, tmp_path: Path) -> None:
    catalog, _, _ = demo_stores(tmp_path)
    with pytest.raises(UsageError, match="must lie on a file system"):
        build_index(replace(catalog, generation=1), s3.path("living/index"))


@pytest.fixture(scope="module")
def google() -> Iterator[RemotePath]:
    """A bucket of an emulator of Google's storage."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "gcp_storage_emulator", "start", f"--port={port}", "--in-memory", "--default-bucket=bucket"]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        place = locate(f"gs://bucket/music?endpoint_override=127.0.0.1:{port}&scheme=http&anonymous=true")
        assert isinstance(place, RemotePath)
        yield place
    finally:
        process.kill()
        process.wait()


def test_the_same_in_a_bucket_of_googles(google: RemotePath, tmp_path: Path, hasty) -> None:
    write_tone(tmp_path / "tone.flac", 1)
    (google / "tone.flac").upload(tmp_path / "tone.flac")
    write_manifest(pa.table({"song_id": ["a", "b"], "path": ["tone.flac", "none.flac"]}), google / "songs.parquet")
    decoded = decode_rows(read_manifest(google / "songs.parquet"))
    assert decoded["error_code"].to_pylist() == [None, "audio.missing"]
    (chunk,) = load_chunks(tmp_path / "tone.flac").chunks
    assert decoded["samples"][0].as_py() == chunk.samples.tobytes()
    store = google / "store"
    with exclusive(store):
        assert not begin_run(store, Run("b" * 64, 4, "nano", SPECIFICATION, {}))
    assert store_status(store).songs == 4
    assert [path.name for path in store.iterdir()] == ["run.json"]
    (store / "run.json").unlink()
    assert not store.exists()


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
