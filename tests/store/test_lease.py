"""One job a store in a bucket: leases, races for them, and what happens when the storage fails."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from lumina_ray.errors import StorageError, StorageRefused, StoreBusy
from lumina_ray.storage import RemotePath
from lumina_ray.store import exclusive, lease
from lumina_ray.store.signature import signature
from tests.s3 import CREDENTIALS, S3


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
