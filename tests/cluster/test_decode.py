"""A song that crashes, hangs or confuses the decoder costs itself, and its row says so."""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.decode import _guard, decode_guarded
from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.manifest import manifest_of
from lumina_ray.cli.exits import exit_code
from lumina_ray.errors import StorageError
from tests.cluster.catalog import write_tone
from tests.cluster.faults import decode_with_faults


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "tone.wav"
    write_tone(path, 2)
    return path


def songs(*paths: Path) -> pa.Table:
    return manifest_of({"song_id": path.name, "path": str(path), "title": "T"} for path in paths)


def test_good_and_bad_files_give_what_they_give_without_a_child(tone: Path) -> None:
    manifest = songs(tone, tone.parent / "missing.wav")
    assert decode_guarded(manifest, decode_rows).equals(decode_rows(manifest))


def test_a_file_that_crashes_or_hangs_the_decoder_fails_alone(tone: Path) -> None:
    names = ("crash.wav", "hang.wav", "bug.wav")
    begin_s = time.monotonic()
    rows = decode_guarded(songs(tone, *(tone.parent / name for name in names), tone), decode_with_faults, limit_s=8)
    assert time.monotonic() - begin_s < 120
    assert rows["error_code"].to_pylist() == [None, "audio.crash", "audio.timeout", "audio.crash", None]
    errors = rows["error"].to_pylist()
    assert "crash.wav: crashes the decoder (SIGSEGV)" in errors[1]
    assert "hang.wav: not decoded after 8 s" in errors[2]
    assert "RuntimeError: a bug" in errors[3]
    assert rows["title"].to_pylist() == ["T"] * 5
    assert rows["samples"][4] == rows["samples"][0]


@pytest.mark.parametrize("name", ["killed.wav", "huge.wav"])
def test_a_child_without_memory_is_no_fault_of_the_song(tone: Path, name: str) -> None:
    """It finds none itself, or the system kills it."""
    with pytest.raises(MemoryError, match="was killed"):
        decode_guarded(songs(tone.parent / name), decode_with_faults)
    assert decode_guarded(songs(tone), decode_rows)["error"].to_pylist() == [None]


def test_a_file_system_that_does_not_answer_is_no_fault_of_the_song(tone: Path) -> None:
    stale = tone.with_name("stale.wav")
    stale.write_bytes(tone.read_bytes())
    with pytest.raises(StorageError, match=r"stale\.wav: cannot be read \(Stale file handle\); try again") as caught:
        decode_guarded(songs(stale), decode_with_faults)
    assert exit_code(caught.value) == 1


def test_the_child_ends_with_its_parent(tone: Path) -> None:
    """Whose end of the pipe is closed then, however it ended."""
    decode_guarded(songs(tone), decode_rows)
    child = _guard().process
    assert child.stdin
    child.stdin.close()
    assert child.wait(timeout=30) == 0
    _guard.cache_clear()
