"""Scanning a folder: real files of several formats, and what folders of music look like in practice."""

import hashlib
import os
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from lumina_ray.audio.guard import Guard
from lumina_ray.catalog.manifest import MAX_ID_CHARACTERS, MAX_METADATA_CHARACTERS, read_manifest, write_manifest
from lumina_ray.catalog.scan import AudioHeader, read_header, scan_folder, song_id_of
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

    rows = {row["song_id"]: row for row in scan_folder(tmp_path, lambda *step: seen.append(step)).to_pylist()}

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
        write_manifest(scan_folder(music), out)
        table = read_manifest(out)
        assert table["song_id"].to_pylist() == ["x.wav"]
        assert table["path"].to_pylist() == [str(music / "x.wav")]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    tone(tmp_path / "real" / "x.wav")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "zlink").symlink_to(tmp_path / "real")
    (tmp_path / "y.wav").symlink_to(tmp_path / "real" / "x.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere")
    rows = scan_folder(tmp_path).to_pylist()
    assert [row["song_id"] for row in rows] == ["dangling.wav", "real/x.wav", "y.wav"]
    assert rows[0]["sha256"] is None


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    tone(tmp_path / "x.wav")
    tone(tmp_path / ".trash" / "y.wav")
    (tmp_path / "._x.wav").write_bytes(b"what macOS leaves on foreign disks")
    assert scan_folder(tmp_path)["song_id"].to_pylist() == ["x.wav"]


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


def test_a_name_that_is_not_text_is_named(tmp_path: Path) -> None:
    raw = bytes(tmp_path) + b"/caf\xe9.wav"
    try:
        Path(raw.decode(errors="surrogateescape")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    with pytest.raises(UsageError, match="is not UTF-8; rename the file"):
        scan_folder(tmp_path)


@pytest.mark.parametrize("name", ["a\nb.wav", "al\tbum/a.wav", "del\x7f.wav"])
def test_a_name_that_no_manifest_takes_is_named_before_anything_is_hashed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone(tmp_path / name)
    monkeypatch.setattr("lumina_ray.catalog.scan.sha256_of", lambda path: pytest.fail(f"{path} is hashed"))
    with pytest.raises(UsageError, match=r"(\\n|\\t|\\x7f).*: holds control characters; rename the file or folder"):
        scan_folder(tmp_path)


def test_what_is_no_file_is_not_hashed(tmp_path: Path) -> None:
    """Neither a pipe, which would be waited for, nor a device without an end."""
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    tone(tmp_path / "x.wav")
    with closing(Guard()) as guard:
        rows = guard.call(scan_folder, tmp_path, limit_s=20).to_pylist()
    assert [(row["song_id"], row["sha256"] is None) for row in rows] == [
        ("pipe.wav", True),
        ("x.wav", False),
        ("zero.wav", True),
    ]


def test_a_tag_that_is_too_long_for_a_manifest_is_cut(tmp_path: Path) -> None:
    tone(tmp_path / "x.flac", title="x" * 100_000, artist="Ann Other")
    write_manifest(scan_folder(tmp_path), tmp_path / "songs.parquet")
    rows = read_manifest(tmp_path / "songs.parquet").to_pylist()
    assert (rows[0]["title"], rows[0]["creator"]) == ("x" * MAX_METADATA_CHARACTERS, "Ann Other")


def test_a_playlist_in_disguise_opens_nothing(tmp_path: Path) -> None:
    target = tone(tmp_path / "secret.wav")
    (tmp_path / "list.wav").write_text(f"ffconcat version 1.0\nfile {target}\n")
    assert read_header(tmp_path / "list.wav").duration_s is None
