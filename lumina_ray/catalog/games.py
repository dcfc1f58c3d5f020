"""An optional catalog of recorded music: the soundtracks of free games in Debian, through apt, nothing installed.

lumina catalog games --out games
"""

import json
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

from lumina_ray.catalog.copyright import FilesParagraph, paragraph_of, parse_copyright
from lumina_ray.catalog.files import atomic_path, sha256_of
from lumina_ray.catalog.manifest import manifest_of, write_manifest
from lumina_ray.catalog.scan import read_header, song_id_of
from lumina_ray.errors import UsageError

Progress = Callable[[int, int, str], None]
"""Called with the number of packages done, the number of all, and the last one's name."""

MIN_SONG_S = 30.0
SILENT_DBFS = -50.0
DOWNLOAD_TIMEOUT_S = 1200.0
UNPACK_TIMEOUT_S = 600.0
FREE_BYTES_NEEDED = 2 << 30
"""The songs (0.6 GB), and the largest package twice while it is being unpacked, with room to spare."""


@dataclass(frozen=True)
class GamePackage:
    """A Debian package with music.

    Attributes:
        music: folder of the package that holds the music; sounds in it are shorter than a song.
        licence: what holds for files of which the package's copyright file says nothing by itself.
        archive: path of a zip file in the package that holds the music, unpacked where it lies.
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
    """Where the manifest lies, how many songs it holds, how many packages had to be fetched just now."""

    manifest: Path
    n_songs: int
    n_fetched: int


@dataclass(frozen=True)
class GameSong:
    """One song; `path` is relative to the catalog's folder."""

    song_id: str
    path: str
    title: str
    creator: str | None
    licence: str
    source: str
    duration_s: float
    sha256: str


def fetch_game_soundtracks(
    out: Path, progress: Progress | None = None, *, packages: tuple[GamePackage, ...] = PACKAGES
) -> GameCatalog:
    """Writes `manifest.parquet` and `audio/<package>/…`: songs of at least 30 s that are not silent, each once.

    Packages whose songs are all there with the right checksum are not fetched again.

    Raises:
        UsageError: apt is not here, a package cannot be fetched or unpacked, or the disk is too full.
    """
    out = Path(out)
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
    # The same recording may be in several packages.
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
    """Downloads and unpacks a package in a temporary folder and moves its songs to `out`."""
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
        # Some games leave the ending off.
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
    """A title or name, or None for what rippers fill in (`<Unknown>`, `03 - Track 03`) and for lists of names."""
    if tag is None or ";" in tag or re.fullmatch(r"<unknown>|(\d+ - )?track \d+", tag, re.IGNORECASE):
        return None
    return tag


def is_ogg(path: Path) -> bool:
    """By the file's first bytes, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) == b"OggS"


def is_silent(path: Path) -> bool:
    """Whether none of five 10-second samples of the file is louder than -50 dBFS (RMS)."""
    with soundfile.SoundFile(path) as file:
        n_frames = min(10 * file.samplerate, file.frames)
        for start in np.linspace(0, file.frames - n_frames, 5).astype(int):
            file.seek(int(start))
            block = file.read(n_frames, dtype="float32", always_2d=True)
            if np.sqrt(np.mean(block**2)) > 10 ** (SILENT_DBFS / 20):
                return False
    return True


def _run(command: list[str], folder: Path, timeout_s: float, fix: str) -> str:
    """Runs a command and returns what it printed.

    Raises:
        UsageError: it failed or took too long.
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
