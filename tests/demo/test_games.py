"""The parts of the games catalog that need no network: licences, selection, and the cache."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.demo.copyright import paragraph_of, parse_copyright
from lumina_ray.demo.games import (
    GamePackage,
    fetch_game_soundtracks,
    is_ogg,
    is_silent,
    telling,
)
from lumina_ray.errors import UsageError

COPYRIGHT = """\
Format: copyright-format/1.0/
Upstream-Name: some-game

Files: *
Copyright: 2004-2011 Parallel Realities
License: GPL-2+

Files:
  music/cave
  music/final
Copyright:
  Copyright (c) 2005 Lennaert van Driel (http://example.org)
Comment:
  Taken from somewhere
License: CC-BY-SA-3.0

Files: data/audio/music/* data/audio/menu.ogg
Copyright: 2011, Obsidian Shell <shell@example.org>
           2012 Someone Else
License: CC-BY-3.0
 The whole text
 .
 of the licence: here.

Files: data/audio/music/late.ogg
Copyright: public-domain
License: public-domain

License: GPL-2+
 Files: not one of ours
"""


def test_paragraphs_about_files() -> None:
    every, cave, shell, late = parse_copyright(COPYRIGHT)
    assert (every.patterns, every.licence, every.holders) == (("*",), "GPL-2+", ("Parallel Realities",))
    assert (cave.patterns, cave.licence) == (("music/cave", "music/final"), "CC-BY-SA-3.0")
    assert cave.holders == ("Lennaert van Driel",)
    assert (shell.licence, shell.holders) == ("CC-BY-3.0", ("Obsidian Shell", "Someone Else"))
    assert late.licence == "public-domain"


@pytest.mark.parametrize(
    ("path", "licence"),
    [
        ("usr/share/games/game/music/cave", "CC-BY-SA-3.0"),
        ("usr/share/games/game/music/cave2", "GPL-2+"),
        ("usr/share/games/game/audio/music/deep/a.ogg", "CC-BY-3.0"),  # installed without `data`; * spans folders
        ("usr/share/games/game/audio/menu.ogg", "CC-BY-3.0"),
        ("usr/share/games/game/audio/music/late.ogg", "public-domain"),  # the last paragraph that matches
        ("usr/share/games/game/audio/other.ogg", "GPL-2+"),
    ],
)
def test_the_licence_of_an_installed_file(path: str, licence: str) -> None:
    paragraph = paragraph_of(path, parse_copyright(COPYRIGHT))
    assert paragraph is not None
    assert paragraph.licence == licence


def test_a_copyright_file_in_free_form_says_nothing() -> None:
    assert parse_copyright("This package was debianized by hand.\n\nFiles: none\nLicense: some\n") == []
    assert paragraph_of("usr/share/music/a.ogg", []) is None


@pytest.mark.parametrize("tag", [None, "<Unknown>", "03 - Track 03", "Track 7", "One;Two;Three"])
def test_tags_that_tell_nothing(tag: str | None) -> None:
    assert telling(tag) is None


def test_tags_that_tell() -> None:
    assert telling("Track of the Wolf") == "Track of the Wolf"


def write_ogg(path: Path, seconds: float, gain: float, **tags: str) -> Path:
    rng = np.random.default_rng(len(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", 8000, 1, format="OGG", subtype="VORBIS") as file:
        for tag, value in tags.items():
            setattr(file, tag, value)
        for _ in range(int(seconds)):
            file.write(gain * rng.standard_normal(8000).astype(np.float32))
    return path


def test_content_tells_ogg_and_silence(tmp_path: Path) -> None:
    assert is_ogg(write_ogg(tmp_path / "noise", 12, 0.1))
    assert not is_silent(tmp_path / "noise")
    assert is_silent(write_ogg(tmp_path / "hush", 12, 1e-5))
    (tmp_path / "text.ogg").write_text("no music")
    assert not is_ogg(tmp_path / "text.ogg")


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    """A real Debian package with four songs, of which one is short and one is silent."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    import subprocess

    tree = tmp_path / "tree"
    music = tree / "usr/share/games/game/music"
    write_ogg(music / "cave", 31, 0.1, title="Adventure", artist="DJ Somebody")
    write_ogg(music / "win" / "final song.ogg", 31, 0.2)
    write_ogg(music / "short.ogg", 5, 0.1)
    write_ogg(music / "hush.ogg", 31, 1e-5)
    (music / "cave.tags").write_text("title=Adventure\n")
    documentation = tree / "usr/share/doc/some-music/copyright"
    documentation.parent.mkdir(parents=True)
    documentation.write_text(COPYRIGHT)
    control = tree / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text(
        "Package: some-music\nVersion: 1.2-3\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: music\n"
    )
    path = tmp_path / "some-music_1.2-3_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, path], check=True, capture_output=True)
    return path


def test_a_package_becomes_a_catalog(tmp_path: Path, deb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the download is replaced; dpkg-deb and all later steps are real.
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "apt-get").write_text(f'#!/bin/sh\ncp "{deb}" .\n')
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    packages = (GamePackage("some-music", "usr/share/games/game/music", "GPL-2+"),)
    out = tmp_path / "games"

    built = fetch_game_soundtracks(out, packages=packages)

    assert (built.n_songs, built.n_fetched) == (2, 1)
    cave, final = read_manifest(built.manifest).to_pylist()
    assert (cave["song_id"], cave["title"], cave["creator"]) == ("some-music/cave", "Adventure", "DJ Somebody")
    assert (cave["licence"], cave["path"]) == ("CC-BY-SA-3.0", str(out / "audio/some-music/cave.ogg"))
    assert cave["source"] == "Debian some-music 1.2-3: usr/share/games/game/music/cave"
    assert cave["duration_s"] == pytest.approx(31)
    assert (final["song_id"], final["title"]) == ("some-music/win/final song", "final song")
    assert (final["licence"], final["creator"]) == ("GPL-2+", None)
    assert (out / "audio/some-music/copyright").read_text() == COPYRIGHT

    assert fetch_game_soundtracks(str(out), packages=packages).n_fetched == 0
    Path(cave["path"]).write_bytes(b"damaged")
    assert fetch_game_soundtracks(out, packages=packages).n_fetched == 1
    assert read_manifest(built.manifest).to_pylist() == [cave, final]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_download_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package some-music' >&2\nexit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UsageError, match=r"Unable to locate package some-music\); .*apt-get update"):
        fetch_game_soundtracks(tmp_path / "out", packages=(GamePackage("some-music", "x", "GPL-2+"),))


def test_without_apt_the_error_names_the_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"needs apt-get, which is not here.*lumina catalog scan"):
        fetch_game_soundtracks(tmp_path / "out")
