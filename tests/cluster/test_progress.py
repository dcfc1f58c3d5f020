"""What a log file gets to see of a job: a line every half minute, in plain text."""

import io
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from cluster import progress
from lumina_ray.store.parts import Tally


def test_a_log_gets_a_line_every_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress._LINE_EVERY_S == 30
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.2)
    (tmp_path / "data").mkdir()
    said = io.StringIO()
    with progress.show_progress(tmp_path, 4, Console(file=said)):
        time.sleep(0.5)
        rows = pa.table({"status": ["ok", "failed"], "error_code": [None, "audio.silent"], "duration_s": [60.0, None]})
        pq.write_table(rows, tmp_path / "data" / "x_000000-0.parquet")
        time.sleep(0.7)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("0/4 songs, 0 failed, 0.0 s of audio/s, ")
    assert lines[0].endswith("ETA unknown")
    assert lines[-1].startswith("2/4 songs, 1 failed, ")
    assert "\x1b" not in said.getvalue()


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

    stopped = Stopped()
    progress._show_bar(Counter(), 4, Console(file=io.StringIO()), stopped, poll_s=0.5)  # type: ignore[arg-type]
    assert stopped.waits_s[0] == 0.5
    assert min(stopped.waits_s[1:]) >= 1.0
