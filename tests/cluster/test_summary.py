"""What a job says of its songs in the end, however many there are."""

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.summary import Failure, first_failures
from tests.calibration.synthetic import specification

N_SONGS = 20_000


def test_the_first_failures_are_found_without_an_object_for_every_song(tmp_path: Path) -> None:
    ids = [f"{i:05}" for i in reversed(range(N_SONGS))]
    failed = [i % 500 == 7 for i in reversed(range(N_SONGS))]
    rows = {
        "song_id": ids,
        "status": ["failed" if of_song else "ok" for of_song in failed],
        "error_code": ["audio.silent" if of_song else None for of_song in failed],
        "error": ["why" if of_song else None for of_song in failed],
    }
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "data" / "run_000000-0.parquet")
    tracemalloc.start()
    found = first_failures(tmp_path, specification())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == tuple(Failure(f"{7 + 500 * i:05}", "audio.silent", "why") for i in range(20))
    assert peak_bytes < 3 << 20
