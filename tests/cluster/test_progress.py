"""A log file gets the phases of a job, and a line every half minute, in plain text."""

import io
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from rich.console import Console

from cluster import progress, session
from cluster.metrics import Done, Times, WorkerMeter, WorkerReports, WorkerTimes
from cluster.session import ray_session
from lumina_ray.store import StoreCounter
from lumina_ray.store.data_files import Tally


class Reports(WorkerReports):
    """Reports of workers that a test makes up."""

    times = Times()

    def read(self) -> Times:
        return self.times


def worker(songs: int, failed: int = 0, audio_s: float = 0.0) -> WorkerTimes:
    return WorkerTimes(1.0, 1.0, 0.0, songs, 100.0, failed, audio_s)


def rows_of(*durations_s: float | None) -> pa.Table:
    """Rows of songs, None for one that failed."""
    failed = [seconds is None for seconds in durations_s]
    return pa.table(
        {
            "status": ["failed" if one else "ok" for one in failed],
            "error_code": pa.array(["audio.silent" if one else None for one in failed], pa.string()),
            "duration_s": pa.array(durations_s, pa.float64()),
        }
    )


def test_a_log_gets_a_line_every_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress._LINE_EVERY_S == 30
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.2)
    (tmp_path / "data").mkdir()
    said, reports = io.StringIO(), Reports()
    with progress.show_progress(tmp_path, StoreCounter(tmp_path), reports, 4, Console(file=said)):
        time.sleep(0.5)
        reports.times = Times((worker(3, 1, 120.0),))
        time.sleep(0.5)
        pq.write_table(rows_of(60.0, None), tmp_path / "data" / "x_000000-0.parquet")
        time.sleep(0.7)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("0/4 songs (0 stored), 0 failed, 0.0 s of audio/s, ")
    assert lines[0].endswith("ETA unknown")
    assert lines.count("Fingerprinting 4 songs.") == 1
    assert any(line.startswith("3/4 songs (0 stored), 1 failed, ") for line in lines)
    assert lines[-1].startswith("3/4 songs (2 stored), 1 failed, ")
    assert "\x1b" not in said.getvalue()


def test_the_first_song_is_told_of_at_once(tmp_path: Path) -> None:
    """Lines come every half minute, but loading is over when it is over."""
    said, reports = io.StringIO(), Reports()
    with progress.show_progress(tmp_path, StoreCounter(tmp_path), reports, 4, Console(file=said)):
        reports.times = Times((worker(0),))
        time.sleep(1.5)
    assert said.getvalue() == "Fingerprinting 4 songs.\n"


def test_a_bar_looks_less_often_the_longer_a_look_takes() -> None:
    class Counter:
        def count(self) -> Tally:
            time.sleep(0.05)
            return Tally()

    class Stopped:
        """After three looks."""

        def __init__(self) -> None:
            self.waits_s: list[float] = []

        def wait(self, seconds: float) -> bool:
            self.waits_s.append(seconds)
            return len(self.waits_s) == 3

    stopped: Any = Stopped()
    view = progress.JobView(Counter(), Reports(), 4)  # type: ignore[arg-type]
    progress._show_bar(view, Console(file=io.StringIO()), stopped, poll_s=0.5)
    assert stopped.waits_s[0] == 0.5
    assert min(stopped.waits_s[1:]) >= 1.0


def test_songs_that_are_computed_again_are_never_more_than_there_are(tmp_path: Path) -> None:
    reports = Reports()
    view = progress.JobView(StoreCounter(tmp_path), reports, 4)
    reports.times = Times((worker(3), worker(3)))
    view.look()
    assert view.done.songs == 4
    # A pass begins when what was computed and not stored is lost: two songs are stored, and one is computed since.
    reports.begin_pass(Tally(2, 120.0))
    reports.times = Times((worker(3), worker(3), worker(1, 0, 60.0)))
    view.look()
    assert view.done == Done(3, 0, 180.0)


def test_a_display_outlives_storage_and_ray_that_do_not_answer(tmp_path: Path) -> None:
    class Silent(Reports):
        def read(self) -> Times:
            raise ray.exceptions.RpcError("no answer")

    view = progress.JobView(StoreCounter(tmp_path), Silent(), 4)
    view.look()
    assert (view.done, view.loaded) == (Done(), False)


def test_workers_on_any_node_report_songs_as_they_finish_them(ray_cluster: str) -> None:
    reports = WorkerReports()

    @ray.remote(num_cpus=0.1)
    class Worker:
        def __init__(self, job: str) -> None:
            self.meter = WorkerMeter(job, 0.5)

        def compute(self, rows: pa.Table) -> None:
            with self.meter.batch(len(rows)):
                self.meter.add(rows)

    workers = [Worker.remote(reports.job) for _ in range(2)]  # type: ignore[attr-defined]
    ray.get([one.__ray_ready__.remote() for one in workers])
    loaded = reports.read()
    assert (len(loaded.workers), loaded.done, loaded.load_s, loaded.tail_s) == (2, Done(), 0.5, 0.0)
    ray.get(workers[0].compute.remote(rows_of(60.0, None)))
    ray.get(workers[1].compute.remote(rows_of(30.0)))
    ray.get(workers[1].compute.remote(rows_of(10.0)))
    assert reports.done(reports.read()) == Done(4, 1, 100.0)
    assert sorted(one.songs for one in reports.take().workers) == [2, 2]
    assert reports.read() == Times()


def test_a_connection_that_exists_is_not_announced(ray_cluster: str) -> None:
    said: list[str] = []
    with ray_session(said.append):
        assert said == []


def test_a_ray_of_its_own_is_announced_before_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "start_local", lambda *_, **__: seen.append("started"))
    with ray_session(seen.append):
        assert seen == ["Starting Ray on this machine.", "started"]
