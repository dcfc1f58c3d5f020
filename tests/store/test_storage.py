"""Addresses, and places in a bucket of a real S3-compatible server."""

import pickle
from pathlib import PurePath

import pytest

from lumina_ray.errors import UsageError
from lumina_ray.files import atomic_path
from lumina_ray.storage import RemotePath, local, locate
from tests.s3 import S3


def test_addresses_and_paths_are_told_apart(tmp_path) -> None:
    assert locate(str(tmp_path)) == locate(tmp_path) == locate(PurePath(tmp_path)) == tmp_path
    place = locate("s3://bucket/a/Who are you?.flac?region=eu-west-1&scheme=http")
    assert isinstance(place, RemotePath)
    assert (place.key, place.options) == ("bucket/a/Who are you?.flac", "region=eu-west-1&scheme=http")
    assert (place.name, place.suffix, place.parent.key) == ("Who are you?.flac", ".flac", "bucket/a")
    assert locate(str(place)) == place
    assert str(locate("gs://bucket/songs/") / "../b #1.wav") == "gs://bucket/b #1.wav"
    assert str(locate("s3://bucket/a//c.wav")) == "s3://bucket/a//c.wav"
    with pytest.raises(UsageError, match=r"\.\./\.\./other/b\.wav: leads out of the bucket bucket"):
        locate("s3://bucket/songs") / "../../other/b.wav"
    assert pickle.loads(pickle.dumps(place)) == place


@pytest.mark.parametrize(
    "text",
    ["http://host/x", "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/x?region=r&secret_key=secret"],
)
def test_other_addresses_are_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(text)
    assert "=secret" not in str(caught.value)
    assert ":secret" not in str(caught.value)


def test_attempts_are_a_number(monkeypatch: pytest.MonkeyPatch, impatient) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(UsageError, match="AWS_MAX_ATTEMPTS must be a number from 1 on, got 'many'"):
        locate("s3://bucket/store").exists()


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


def test_a_storage_that_is_down_for_a_while_is_waited_for(s3: S3) -> None:
    before = s3.failed()
    s3.fail(3)
    s3.path("while/x").write_bytes(b"x")
    assert s3.path("while/x").read_bytes() == b"x"
    assert s3.failed() == before + 3
