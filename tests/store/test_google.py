"""Songs and stores in a bucket of an emulator of Google's storage."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from lumina_ray.audio import load_chunks
from lumina_ray.catalog import decode_rows, read_manifest, write_manifest
from lumina_ray.storage import RemotePath, locate
from lumina_ray.store import Run, begin_run, exclusive, store_status
from tests.cluster.catalog import write_tone
from tests.store.test_status import SPECIFICATION


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
