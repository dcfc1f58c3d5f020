"""Manifests, audio and stores in a bucket of a real S3-compatible server, and what happens when that fails."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from lumina_ray import storage
from lumina_ray.audio import load_audio
from lumina_ray.catalog import decode_rows, read_manifest, write_manifest
from lumina_ray.catalog.files import atomic_path
from lumina_ray.errors import AudioError, ManifestError, StorageError, StorageRefused, UsageError
from lumina_ray.storage import RemotePath, local, locate
from tests.cluster.catalog import write_tone
from tests.s3 import S3


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, s3: S3):
    """Two attempts for each request, and a server that works again afterwards."""
    monkeypatch.setattr(storage, "_ATTEMPTS", 2)
    storage._filesystem.cache_clear()
    yield
    s3.fail(0)
    storage._filesystem.cache_clear()


def test_addresses_and_paths_are_told_apart(tmp_path) -> None:
    assert locate(str(tmp_path)) == tmp_path
    place = locate("s3://bucket/a/Who are you?.flac?region=eu-west-1&scheme=http")
    assert isinstance(place, RemotePath)
    assert (place.key, place.options) == ("bucket/a/Who are you?.flac", "region=eu-west-1&scheme=http")
    assert (place.name, place.suffix, place.parent.key) == ("Who are you?.flac", ".flac", "bucket/a")
    assert locate(str(place)) == place
    assert str(locate("gs://bucket/songs/") / "../b #1.wav") == "gs://bucket/b #1.wav"
    assert pickle.loads(pickle.dumps(place)) == place


@pytest.mark.parametrize("text", ["http://host/x", "s3://", "s3:///x", "s3://key:secret@bucket/x"])
def test_other_addresses_are_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(text)
    assert "secret" not in str(caught.value)


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
    assert caught.value.kind == "audio.too_large"


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
