"""Durations of songs that are not decoded."""

import os
from pathlib import Path

import pytest

from lumina_ray.catalog.durations import song_durations
from lumina_ray.catalog.manifest import manifest_of
from tests.cluster.catalog import write_tone
from tests.cluster.faults import header_with_faults
from tests.s3 import S3


def test_durations_come_from_the_manifest_where_it_has_them_and_from_headers_where_not(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 3)
    rows = [{"song_id": "a", "path": str(tmp_path / "a.wav")}, {"song_id": "b", "path": "gone", "duration_s": 7.0}]
    durations_s, source = song_durations(manifest_of([*rows, {"song_id": "c", "path": "missing.wav"}]))
    assert durations_s.tolist() == [pytest.approx(3), 7, 0]
    assert source == "durations of 2 files' headers"
    assert song_durations(manifest_of(rows[1:]))[1] == "durations of the manifest"


def test_a_song_in_a_bucket_has_its_duration(tmp_path: Path, s3: S3) -> None:
    write_tone(tmp_path / "a.wav", 3)
    (tmp_path / "b.wav").write_text("no audio")
    folder = s3.upload(tmp_path, "durations")
    rows = [{"song_id": name, "path": str(folder / f"{name}.wav")} for name in ("a", "b", "gone")]
    assert song_durations(manifest_of(rows))[0].tolist() == [pytest.approx(3), 0, 0]


def test_of_many_files_some_are_read_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lumina_ray.catalog.durations._HEADERS", 3)
    for i in range(5):
        write_tone(tmp_path / f"{i}.wav", i + 1)
    durations_s, source = song_durations(
        manifest_of([{"song_id": str(i), "path": str(tmp_path / f"{i}.wav")} for i in range(5)])
    )
    assert durations_s.tolist() == pytest.approx([1, 3, 3, 3, 5])
    assert source.startswith("durations of 3 files' headers for 5 songs, ±")


@pytest.mark.timeout(60)
def test_a_header_that_crashes_or_hangs_what_reads_it_has_no_duration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lumina_ray.catalog.durations.read_header", header_with_faults)
    monkeypatch.setattr("lumina_ray.catalog.durations._LIMIT_S", 2.0)
    os.mkfifo(tmp_path / "pipe.wav")
    names = ["crash", "hang", "pipe", "tone"]
    for name in {*names} - {"pipe"}:
        write_tone(tmp_path / f"{name}.wav", 3)
    manifest = manifest_of([{"song_id": name, "path": str(tmp_path / f"{name}.wav")} for name in names])
    durations_s, _ = song_durations(manifest)
    assert durations_s.tolist() == [0, 0, 0, pytest.approx(3)]


def test_a_forbidden_song_has_no_duration_and_is_no_end_of_the_job(tmp_path: Path, s3: S3) -> None:
    write_tone(tmp_path / "a.wav", 3)
    write_tone(tmp_path / "b.wav", 3)
    folder = s3.upload(tmp_path, "forbidden-durations")
    s3.fail(100, status=403, key="forbidden-durations/a.wav")
    try:
        rows = [{"song_id": name, "path": str(folder / f"{name}.wav")} for name in ("a", "b")]
        assert song_durations(manifest_of(rows))[0].tolist() == [0, pytest.approx(3)]
    finally:
        s3.fail(0)
