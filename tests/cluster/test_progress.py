"""What a log file gets to see of a job: a line every half minute, in plain text."""

import io
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from cluster import progress


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
