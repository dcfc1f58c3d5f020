"""An optional catalog of recorded music: soundtracks of free games in Debian, downloaded by apt and not installed.

lumina catalog games --out games
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from lumina_ray.catalog.manifest import manifest_of, write_manifest
from lumina_ray.catalog.scan import read_header, song_id_of
from lumina_ray.demo.copyright import FilesParagraph, paragraph_of, parse_copyright
from lumina_ray.errors import UsageError
from lumina_ray.files import atomic_path, sha256_of
from lumina_ray.storage import local

Progress = Callable[[int, int, str], None]
"""Function that is called with the number of packages that are done, the number of all, and the last one's name."""

MIN_SONG_S = 30.0
SILENT_DBFS = -50.0
DOWNLOAD_TIMEOUT_S = 1200.0
UNPACK_TIMEOUT_S = 600.0
FREE_BYTES_NEEDED = 2 << 30
"""Disk space for the songs (0.6 GB), and for two copies of the largest package during unpacking, with room to spare."""


@dataclass(frozen=True)
class GamePackage:
    """A Debian package with music.

    Attributes:
        name: the package's name.
        music: folder in the package that holds the music; effects in it are shorter than a song.
        licence: licence of files that the package's copyright file does not mention.
        archive: path of a zip file in the package that holds the music; it is unpacked in place.
    """

    name: str
    music: str
    licence: str
    archive: str | None = None


PACKAGES = (
    GamePackage("ardentryst", "usr/share/games/ardentryst/Music", "CC-BY-SA-3.0"),
    GamePackage("blobwars-data", "usr/share/games/blobwars/music", "GPL-2+"),
    GamePackage("hyperrogue-music", "usr/share/hyperrogue/music", "CC-BY-SA-3.0"),
    GamePackage("marsshooter-data", "usr/share/games/marsshooter/audio", "CC-BY-SA-3.0"),
    GamePackage("singularity-music", "usr/share/games/singularity/music", "CC-BY-SA-3.0"),
    GamePackage(
        "ufoai-music",
        "usr/share/games/ufoai/base/music",
        "GPL-2+",
        archive="usr/share/games/ufoai/base/0music.pk3",
    ),
    GamePackage("wesnoth-1.16-music", "usr/share/games/wesnoth/1.16/data/core/music", "GPL-2+"),
)


@dataclass(frozen=True)
class GameCatalog:
    """A catalog of game soundtracks.

    Attributes:
        manifest: path of the manifest.
        n_songs: number of songs in the manifest.
        n_fetched: how many packages this call downloaded; the others were cached.
    """

    manifest: Path
    n_songs: int
    n_fetched: int


@dataclass(frozen=True)
class GameSong:
    """One song of a catalog of game soundtracks; `path` is relative to the catalog's folder."""

    song_id: str
    path: str
    title: str
    creator: str | None
    licence: str
    source: str
    duration_s: float
    sha256: str


def fetch_game_soundtracks(
    out: str | os.PathLike[str], progress: Progress | None = None, *, packages: tuple[GamePackage, ...] = PACKAGES
) -> GameCatalog:
    """Write `manifest.parquet` and `audio/<package>/…`: songs of at least 30 s that are not silent, each once.

    A package is not downloaded again where all its songs are there with the right checksum.

    Args:
        out: folder to write to, on a file system.
        progress: called after each package.
        packages: the packages to download.

    Raises:
        UsageError: apt is missing, a package cannot be downloaded or unpacked, or the disk is too full.
    """
    out = local(out)
    out.mkdir(parents=True, exist_ok=True)
    ledger_path = out / "packages.json"
    ledger = _read_ledger(ledger_path)
    n_fetched = 0
    for done, package in enumerate(packages, start=1):
        songs = ledger.get(package.name)
        if songs is None or not all(_is_there(out, song) for song in songs):
            _check_tools(out)
            ledger[package.name] = _fetch(package, out)
            n_fetched += 1
            with atomic_path(ledger_path) as temporary:
                temporary.write_text(
                    json.dumps({name: [asdict(song) for song in songs] for name, songs in ledger.items()}, indent=1)
                )
        if progress:
            progress(done, len(packages), package.name)
    # Several packages may hold one recording.
    unique = {song.sha256: song for package in reversed(packages) for song in reversed(ledger[package.name])}
    songs = sorted(unique.values(), key=lambda song: song.song_id)
    write_manifest(manifest_of(map(asdict, songs)), out / "manifest.parquet")
    return GameCatalog(out / "manifest.parquet", len(songs), n_fetched)


def _check_tools(out: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UsageError(
                f"`lumina catalog games` needs {tool}, which is not here: run it on Debian or one of its kin, "
                "or use `lumina catalog scan` on a folder of your own music"
            )
    free = shutil.disk_usage(out).free
    if free < FREE_BYTES_NEEDED:
        raise UsageError(f"{out}: {free} bytes are free on its disk, {FREE_BYTES_NEEDED} are needed; make room")


def _fetch(package: GamePackage, out: Path) -> list[GameSong]:
    """Download and unpack a package in a temporary folder, and move its songs to `out`."""
    with tempfile.TemporaryDirectory(dir=out, prefix=".fetch-") as name:
        work = Path(name)
        _run(
            ["apt-get", "download", package.name],
            work,
            DOWNLOAD_TIMEOUT_S,
            "check the network, and run `apt-get update` if the package is not known",
        )
        archive = next(work.glob("*.deb"))
        version = _run(["dpkg-deb", "--field", archive.name, "Version"], work, UNPACK_TIMEOUT_S, "fetch it again")
        _run(
            ["dpkg-deb", "--extract", archive.name, "tree"],
            work,
            UNPACK_TIMEOUT_S,
            "check the space on the disk",
        )
        archive.unlink()
        tree = work / "tree"
        if package.archive:
            with zipfile.ZipFile(tree / package.archive) as zipped:
                zipped.extractall((tree / package.archive).parent)
        copyright_path = tree / "usr/share/doc" / package.name / "copyright"
        paragraphs = parse_copyright(copyright_path.read_text(encoding="utf-8"))
        songs = list(_keep_songs(package, version, tree, paragraphs, out))
        target = out / "audio" / package.name / "copyright"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(copyright_path, target)
    if not songs:
        raise UsageError(f"{package.name} {version}: holds no music where it is expected ({package.music})")
    return songs


def _keep_songs(
    package: GamePackage, version: str, tree: Path, paragraphs: list[FilesParagraph], out: Path
) -> Iterator[GameSong]:
    folder = tree / package.music
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if not is_ogg(file):
            continue
        header = read_header(file)
        if header.duration_s is None or header.duration_s < MIN_SONG_S or is_silent(file):
            continue
        installed = file.relative_to(tree).as_posix()
        name = file.relative_to(folder)
        # Some games' files have no ending.
        path = Path("audio") / package.name / (name if name.suffix else name.with_suffix(".ogg"))
        paragraph = paragraph_of(installed, paragraphs)
        holders = paragraph.holders if paragraph and paragraph.patterns != ("*",) else ()
        song = GameSong(
            song_id=song_id_of(path.relative_to("audio").with_suffix("").as_posix()),
            path=path.as_posix(),
            title=telling(header.tags.get("title")) or file.stem.replace("_", " "),
            creator=telling(header.tags.get("creator")) or (holders[0] if len(holders) == 1 else None),
            licence=paragraph.licence if paragraph else package.licence,
            source=f"Debian {package.name} {version}: {installed}",
            duration_s=header.duration_s,
            sha256=sha256_of(file),
        )
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, out / path)
        yield song


def telling(tag: str | None) -> str | None:
    """Return a tag that says something, and None for lists of names and fillers (`<Unknown>`, `03 - Track 03`)."""
    if tag is None or ";" in tag or re.fullmatch(r"<unknown>|(\d+ - )?track \d+", tag, re.IGNORECASE):
        return None
    return tag


def is_ogg(path: Path) -> bool:
    """Whether a file is in the Ogg format, by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"OggS"


def is_silent(path: Path) -> bool:
    """Whether all of five 10-second excerpts of the file are below -50 dBFS (RMS)."""
    with soundfile.SoundFile(path) as file:
        n_frames = min(10 * file.samplerate, file.frames)
        for start in np.linspace(0, file.frames - n_frames, 5).astype(int):
            file.seek(int(start))
            block = file.read(n_frames, dtype="float32", always_2d=True)
            if np.sqrt(np.mean(block**2)) > 10 ** (SILENT_DBFS / 20):
                return False
    return True


def _run(command: list[str], folder: Path, timeout_s: float, fix: str) -> str:
    """Run a command in a folder, and return its standard output.

    Raises:
        UsageError: the command failed or took too long; the message ends with `fix`.
    """
    try:
        finished = subprocess.run(command, cwd=folder, timeout=timeout_s, capture_output=True, text=True, check=True)
    except subprocess.TimeoutExpired:
        raise UsageError(f"`{' '.join(command)}` took more than {timeout_s:.0f} s; {fix}") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or [f"exit status {error.returncode}"]
        raise UsageError(f"`{' '.join(command)}` failed ({reason[0]}); {fix}") from None
    return finished.stdout.strip()


def _is_there(out: Path, song: GameSong) -> bool:
    path = out / song.path
    return path.is_file() and sha256_of(path) == song.sha256


def _read_ledger(path: Path) -> dict[str, list[GameSong]]:
    try:
        return {name: [GameSong(**song) for song in songs] for name, songs in json.loads(path.read_text()).items()}
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return {}
