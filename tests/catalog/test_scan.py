"""Scanning a folder: real files of several formats, and what folders of music look like in practice."""

import hashlib
import os
import socket
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.audio.guard import Guard
from lumina_ray.catalog.manifest import MAX_ID_CHARACTERS, MAX_METADATA_CHARACTERS, read_manifest, write_manifest
from lumina_ray.catalog.scan import AudioHeader, read_header, scan_folder, skipped_sentence, song_id_of
from lumina_ray.errors import UsageError

RATE_HZ = 22_050


def tone(path: Path, seconds: float = 1.5, **tags: str) -> Path:
    """A sine tone in the format of the path's ending."""
    samples = 0.3 * np.sin(2 * np.pi * 440 / RATE_HZ * np.arange(int(seconds * RATE_HZ))).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        for tag, value in tags.items():
            setattr(file, tag, value)
        file.write(samples)
    return path


def tag(path: Path, **tags: str) -> None:
    """Give a FLAC file tags that libsndfile does not write."""
    plain = path.with_name("plain.flac")
    path.rename(plain)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        target.metadata.update({**source.metadata, **tags})
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    plain.unlink()


def tone_m4a(path: Path) -> Path:
    """A second of AAC, which libsndfile does not know."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        container.metadata["title"] = "An M4A"
        samples = 0.3 * np.sin(2 * np.pi * 440 / RATE_HZ * np.arange(RATE_HZ)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
        frame.rate = RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["pipe.wav", "concat.wav"])
def test_what_is_no_file_of_audio_has_no_header(tmp_path: Path, name: str) -> None:
    """Neither a pipe, which would be waited for in C, nor a text that has FFmpeg open another file."""
    tone(tmp_path / "secret.wav")
    (tmp_path / "concat.wav").write_text("ffconcat version 1.0\nfile secret.wav\nduration 60\n")
    os.mkfifo(tmp_path / "pipe.wav")
    with closing(Guard()) as guard:
        assert guard.call(read_header, tmp_path / name, limit_s=5) == AudioHeader(None, {})


def test_formats_tags_and_fallbacks(tmp_path: Path) -> None:
    tone(tmp_path / "b" / "tagged.flac", title="Über alles", artist="Ann Other", license="CC0")
    tone(tmp_path / "b" / "plain song.MP3")
    tone(tmp_path / "a.ogg", artist="Ogg Artist")
    tone(tmp_path / "c.wav", seconds=0.5)
    tone_m4a(tmp_path / "d.m4a")
    (tmp_path / "cover.jpg").write_bytes(b"no audio")
    (tmp_path / "broken.wav").write_text("a text file named .wav")
    (tmp_path / "empty.flac").write_bytes(b"")
    seen: list[tuple[int, int, str]] = []

    rows = {row["song_id"]: row for row in scan_folder(tmp_path, lambda *step: seen.append(step)).songs.to_pylist()}

    assert list(rows) == [
        "a.ogg",
        "b/plain song.MP3",
        "b/tagged.flac",
        "broken.wav",
        "c.wav",
        "d.m4a",
        "empty.flac",
    ]
    assert seen == [(number, 7, song_id) for number, song_id in enumerate(rows, start=1)]
    tagged = rows["b/tagged.flac"]
    assert (tagged["title"], tagged["creator"], tagged["licence"]) == ("Über alles", "Ann Other", "CC0")
    assert tagged["path"] == str(tmp_path / "b" / "tagged.flac")
    assert tagged["sha256"] == hashlib.sha256((tmp_path / "b" / "tagged.flac").read_bytes()).hexdigest()
    assert rows["b/plain song.MP3"]["title"] == "plain song"
    assert rows["a.ogg"]["creator"] == "Ogg Artist"
    assert rows["d.m4a"]["title"] == "An M4A"
    assert tagged["duration_s"] == pytest.approx(1.5)
    assert rows["a.ogg"]["duration_s"] == pytest.approx(1.5)
    assert rows["b/plain song.MP3"]["duration_s"] == pytest.approx(1.5, abs=0.1)
    assert rows["c.wav"]["duration_s"] == pytest.approx(0.5)
    assert rows["d.m4a"]["duration_s"] == pytest.approx(1.0, abs=0.1)
    assert rows["broken.wav"]["duration_s"] is None
    assert rows["empty.flac"]["duration_s"] is None


def test_a_scan_is_a_manifest(tmp_path: Path) -> None:
    music = tmp_path / "Musik, überall"
    tone(music / "x.wav")
    for ending in ("parquet", "csv"):
        out = tmp_path / "elsewhere" / f"songs.{ending}"
        write_manifest(scan_folder(music).songs, out)
        table = read_manifest(out)
        assert table["song_id"].to_pylist() == ["x.wav"]
        assert table["path"].to_pylist() == [str(music / "x.wav")]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    tone(tmp_path / "real" / "x.wav")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "zlink").symlink_to(tmp_path / "real")
    (tmp_path / "y.wav").symlink_to(tmp_path / "real" / "x.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself.wav").symlink_to(tmp_path / "itself.wav")
    scan = scan_folder(tmp_path)
    assert scan.songs["song_id"].to_pylist() == ["real/x.wav", "y.wav"]
    assert scan.songs["sha256"].null_count == 0
    assert [(one.path, one.reason) for one in scan.skipped] == [
        ("dangling.wav", "a link that leads nowhere"),
        ("itself.wav", "a link that leads nowhere"),
    ]


ATTRIBUTES = b"\x00\x05\x16\x07 what macOS leaves on disks of others"


def test_every_file_is_taken_or_skipped_for_a_reason(tmp_path: Path) -> None:
    for name in ("x.wav", ".hidden.wav", ".folder/...y.flac", "._music.wav", "z.AC3"):
        tone(tmp_path / "a.wav").rename(tmp_path / name) if "/" not in name else tone(tmp_path / name)
    for name in ("._x.wav", "deep/._y.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(ATTRIBUTES)
    os.mkfifo(tmp_path / "._pipe.wav")
    (tmp_path / "cover.jpg").write_bytes(b"")
    (tmp_path / "line\nbreak.wav").write_bytes(b"")
    (tmp_path / "\x9besc.wav").write_bytes(b"")
    os.close(os.open(bytes(tmp_path) + b"/caf\xe9.wav", os.O_CREAT))
    scan = scan_folder(tmp_path)
    taken = ["._music.wav", ".folder/...y.flac", ".hidden.wav", "x.wav", "z.AC3"]
    assert scan.songs["song_id"].to_pylist() == taken
    assert [(one.path, one.reason) for one in scan.skipped] == [
        ("._pipe.wav", "a pipe, socket or device"),
        ("._x.wav", "attributes of another file (AppleDouble)"),
        ("caf\\xe9.wav", "its name is not UTF-8"),
        ("cover.jpg", "not audio by its name"),
        ("deep/._y.flac", "attributes of another file (AppleDouble)"),
        ("line\nbreak.wav", "its name holds control characters"),
        ("\x9besc.wav", "its name holds control characters"),
    ]
    assert skipped_sentence(scan.skipped) == (
        "7 files skipped: 2 × attributes of another file (AppleDouble), 2 × its name holds control characters, "
        "1 × a pipe, socket or device, 1 × its name is not UTF-8, 1 × not audio by its name"
    )


NAME = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12) | st.binary(
    min_size=1, max_size=12
).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_").decode(errors="surrogateescape"))


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.tuples(NAME, st.sampled_from([".wav", ".MP4", ".txt", ""])).map("".join), max_size=8))
def test_files_of_any_name_are_all_accounted_for(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    """And the manifest of those that are taken can be read, also where names differ in next to nothing."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "x.wav").touch()
    (folder / "X.wav").touch()
    for name in names:
        if name not in (".", ".."):
            (folder / name).touch()
    n_files = len(list(folder.iterdir()))
    scan = scan_folder(folder)
    assert len(scan.songs) + len(scan.skipped) == n_files
    for ending in ("csv", "parquet"):
        out = folder / f"out.{ending}"
        write_manifest(scan.songs, out)
        read = read_manifest(out)
        assert read["path"].to_pylist() == scan.songs["path"].to_pylist()
        assert read["song_id"].to_pylist() == scan.songs["song_id"].to_pylist()


def test_tags_are_written_as_a_manifest_takes_them(tmp_path: Path) -> None:
    tone(tmp_path / "good.flac", title="two\nlines,\tand a tab")
    tag(tmp_path / "good.flac", ISRC="gb-aaa-24-00042")
    tone(tmp_path / "wrong.flac")
    tag(tmp_path / "wrong.flac", ISRC="none")
    scan = scan_folder(tmp_path)
    assert scan.songs["isrc"].to_pylist() == ["GBAAA2400042", None]
    assert scan.songs["title"].to_pylist() == ["two lines, and a tab", "wrong"]
    assert [(one.path, one.reason) for one in scan.notes] == [
        ("wrong.flac", "its tag's ISRC is none, and was left out")
    ]
    write_manifest(scan.songs, tmp_path / "songs.csv")
    assert len(read_manifest(tmp_path / "songs.csv")) == 2


def test_ids_are_stable_unique_and_valid() -> None:
    assert song_id_of("Álbum/01 Lied.flac") == "Álbum/01 Lied.flac"
    long = "x" * 600 + ".wav"
    awkward = [song_id_of(name) for name in ("a\nb.wav", "a\tb.wav", "a_b.wav", long, long.replace("wav", "mp3"))]
    assert len(set(awkward)) == 5
    assert all(len(song_id) <= MAX_ID_CHARACTERS and song_id.isprintable() for song_id in awkward)


def test_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no audio files"):
        scan_folder(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        scan_folder(tmp_path / "none")


@pytest.mark.parametrize("name", [b"a\nb.wav", b"al\tbum/a.wav", b"del\x7f.wav", b"caf\xe9.wav"])
def test_a_name_that_no_manifest_takes_is_skipped_before_anything_is_hashed(
    tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.setattr("lumina_ray.catalog.scan.sha256_of", lambda path: pytest.fail(f"{path} is hashed"))
    with pytest.raises(UsageError, match=r"holds no audio files .*; 1 file skipped: 1 × its name (is not|holds)"):
        scan_folder(tmp_path)


@pytest.mark.parametrize("folder", ["x" * 5000, "/".join(["x" * 200] * 30)])
def test_a_path_that_none_can_have_is_no_folder(folder: str) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        scan_folder(folder)


def test_what_is_no_file_is_skipped_unopened(tmp_path: Path) -> None:
    """Neither a pipe or socket, which would be waited for, nor a device without an end."""
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    tone(tmp_path / "x.wav")
    with closing(Guard()) as guard, closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(tmp_path / "s.wav"))
        scan = guard.call(scan_folder, tmp_path, limit_s=20)
    assert [(row["song_id"], row["sha256"] is None) for row in scan.songs.to_pylist()] == [("x.wav", False)]
    assert [(one.path, one.reason) for one in scan.skipped] == [
        (name, "a pipe, socket or device") for name in ("link.wav", "pipe.wav", "s.wav", "zero.wav")
    ]


def test_a_tag_that_is_too_long_for_a_manifest_is_cut(tmp_path: Path) -> None:
    tone(tmp_path / "x.flac", title="x" * 100_000, artist="Ann Other")
    write_manifest(scan_folder(tmp_path).songs, tmp_path / "songs.parquet")
    rows = read_manifest(tmp_path / "songs.parquet").to_pylist()
    assert (rows[0]["title"], rows[0]["creator"]) == ("x" * MAX_METADATA_CHARACTERS, "Ann Other")


def test_a_playlist_in_disguise_opens_nothing(tmp_path: Path) -> None:
    target = tone(tmp_path / "secret.wav")
    (tmp_path / "list.wav").write_text(f"ffconcat version 1.0\nfile {target}\n")
    assert read_header(tmp_path / "list.wav").duration_s is None
