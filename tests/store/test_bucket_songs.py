"""Manifests and audio in a bucket of a real S3-compatible server, and what happens when that fails."""

import numpy as np
import pyarrow as pa
import pytest

from lumina_ray.audio import load_audio
from lumina_ray.catalog import decode_rows, read_manifest, write_manifest
from lumina_ray.errors import AudioError, ManifestError, StorageError, StorageRefused
from tests.cluster.catalog import write_tone
from tests.s3 import S3


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
