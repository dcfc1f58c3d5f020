"""The demo catalog: real music, rendered on this machine from packages alone, cached and checksummed.

lumina catalog demo --out demo-output/catalog
"""

import json
import multiprocessing
import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from lumina_ray.catalog.manifest import manifest_of, write_manifest
from lumina_ray.demo.captions import caption, notes_between, tempo_word, used_instruments
from lumina_ray.demo.render import SONG_S, level, render, trim
from lumina_ray.demo.scores import arrange_band, arrange_score, corpus_midi, freedoom_midi, package_folder
from lumina_ray.demo.songs import PARTS, DemoSong, MusicPackage, demo_songs
from lumina_ray.errors import UsageError
from lumina_ray.files import atomic_path, sha256_of
from lumina_ray.storage import local
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import mido

Progress = Callable[[int, int, str], None]
"""Function that is called with the number of songs that are done, the number of all, and the last song's id."""

RECIPE = 3
"""Version of the rendering. Raise it when the same packages come to sound different, or when more is kept of a song:
cached songs become stale."""

PACKAGES: dict[MusicPackage, tuple[str, ...]] = {
    "freedoom": ("vizdoom", "mido", "tinysoundfont", "pretty_midi", "soundfile"),
    "music21": ("music21", "mido", "tinysoundfont", "pretty_midi", "soundfile"),
    "immich": ("immich-memories-music", "soundfile", "soxr"),
}


@dataclass(frozen=True)
class Performance:
    """A song as the demo plays it.

    Attributes:
        samples: float32 `[n]`, mono, 32 kHz, 20 s long.
        caption: see `lumina_ray.demo.captions`.
    """

    samples: np.ndarray
    caption: str


@dataclass(frozen=True)
class DemoCatalog:
    """The demo catalog's manifests.

    Attributes:
        catalog: manifest of the songs that the bundled model was trained on.
        controls: manifest of songs by composers that the model never saw.
        queries: manifest of songs that another model generated.
        n_catalog: number of songs in `catalog`.
        n_controls: number of songs in `controls`.
        n_queries: number of songs in `queries`.
        n_rendered: how many of all songs this call rendered; the others were cached.
    """

    catalog: Path
    controls: Path
    queries: Path
    n_catalog: int
    n_controls: int
    n_queries: int
    n_rendered: int


def build_demo_catalog(
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    seed: int = 0,
    songs: tuple[DemoSong, ...] | None = None,
) -> DemoCatalog:
    """Write `catalog.parquet`, `controls.parquet`, `queries.parquet` and `audio/<part>/<song_id>.flac`.

    Songs that are already there, with the right checksum and from the same recipe, are not rendered again.

    Args:
        out: folder to write to, on a file system.
        progress: called after each song.
        seed: seed of instruments, tempo and level.
        songs: the songs to make; by default, all songs of the demo.

    Raises:
        UsageError: a package is missing, a song cannot be rendered, or `out` cannot be a folder.
    """
    songs = demo_songs() if songs is None else songs
    out = local(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be a folder ({error.strerror}); choose another place") from None
    recipes = {song.song_id: _recipe(song, seed) for song in songs}
    ledger_path = out / "checksums.json"
    ledger = _read_ledger(ledger_path)
    wanted = [song for song in songs if not _is_current(out, song, recipes[song.song_id], ledger)]
    done = len(songs) - len(wanted)
    if progress and done:
        progress(done, len(songs), "cached")
    if wanted:
        workers = min(os.cpu_count() or 1, len(wanted))
        # Processes are spawned and not forked, because the caller may hold torch's or Ray's threads.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(make_song, song, out, seed): song for song in wanted}
            try:
                for future in as_completed(futures):
                    song = futures[future]
                    ledger[song.audio_path] = {**future.result(), "recipe": recipes[song.song_id]}
                    _write_json(ledger, ledger_path)
                    done += 1
                    if progress:
                        progress(done, len(songs), song.song_id)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    for part in PARTS:
        rows = [_manifest_row(song, ledger[song.audio_path]) for song in songs if song.part == part]
        write_manifest(manifest_of(rows), out / f"{part}.parquet")
    n_songs = {part: sum(song.part == part for song in songs) for part in PARTS}
    return DemoCatalog(
        catalog=out / "catalog.parquet",
        controls=out / "controls.parquet",
        queries=out / "queries.parquet",
        n_catalog=n_songs["catalog"],
        n_controls=n_songs["controls"],
        n_queries=n_songs["queries"],
        n_rendered=len(wanted),
    )


def make_song(song: DemoSong, out: Path, seed: int) -> dict[str, Any]:
    """Render one song to its FLAC file (32 kHz, mono, 16 bit), and return its `sha256`, `duration_s` and `caption`.

    Instruments, tempo and level follow from the seed and the song's id alone.

    Raises:
        UsageError: the song cannot be rendered with the packages that are here.
    """
    try:
        performance = perform(song, arrangement(song, seed))
    except UsageError:
        raise
    except Exception as error:
        # A parser of scores can raise anything. The name of the song helps the user most.
        raise UsageError(
            f"demo catalog: {song.song_id} cannot be made from {song.source} ({type(error).__name__}: {error}); "
            "`uv sync --extra demo` installs the package versions that it is known to work with"
        ) from error
    with atomic_path(out / song.audio_path) as temporary:
        soundfile.write(temporary, performance.samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        digest = sha256_of(temporary)
    duration_s = len(performance.samples) / SAMPLE_RATE_HZ
    return {"sha256": digest, "duration_s": duration_s, "caption": performance.caption}


def arrangement(song: DemoSong, seed: int) -> random.Random:
    """The random generator that decides how the demo's own version of a song sounds."""
    return random.Random(f"{seed}/{song.song_id}")


def perform(song: DemoSong, rng: random.Random) -> Performance:
    """Render a song, and say in a caption what is heard.

    Args:
        song: the song.
        rng: draws instruments, tempo and level.

    Raises:
        UsageError: the song's package is not installed.
        ValueError: fewer than 20 s of the song sound.
    """
    tempo, peak_dbfs = rng.uniform(0.9, 1.12), rng.uniform(-9.0, -1.0)
    match song.kind:
        case "freedoom":
            return _play(song, arrange_band(freedoom_midi(song.ref), rng), tempo, peak_dbfs)
        case "music21":
            return _play(song, arrange_score(corpus_midi(song.ref), rng), tempo, peak_dbfs)
        case "immich":
            path = package_folder("immich_memories_music") / "tracks" / song.ref
            samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
            song_samples = trim(soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ))
            # There is no score that would tell tempo and instruments.
            return Performance(level(song_samples, peak_dbfs), caption(song.style, song.form))


def _play(song: DemoSong, midi: "mido.MidiFile", tempo: float, peak_dbfs: float) -> Performance:
    rendering = render(midi, tempo, peak_dbfs)
    notes = notes_between(midi, rendering.begin_s, rendering.end_s)
    return Performance(
        rendering.samples, caption(song.style, song.form, tempo_word(notes, SONG_S), used_instruments(notes))
    )


def _recipe(song: DemoSong, seed: int) -> str:
    """A text of all that decides how a song sounds, and its caption. When it changes, the cached file is stale."""
    try:
        versions = [f"{package} {version(package)}" for package in PACKAGES[song.kind]]
    except PackageNotFoundError as error:
        raise UsageError(
            f"the demo catalog needs the package {error.name!r}, which is not installed: run `uv sync --extra demo`"
        ) from None
    words = f"style {song.style}, form {song.form}"
    return "; ".join([song.ref, f"recipe {RECIPE}", f"seed {seed}", words, *versions])


def _is_current(out: Path, song: DemoSong, recipe: str, ledger: dict[str, dict[str, Any]]) -> bool:
    entry, path = ledger.get(song.audio_path), out / song.audio_path
    return entry is not None and entry["recipe"] == recipe and path.is_file() and sha256_of(path) == entry["sha256"]


def _manifest_row(song: DemoSong, made: dict[str, Any]) -> dict[str, Any]:
    return {
        "song_id": song.song_id,
        "path": song.audio_path,
        "title": song.title,
        "creator": song.creator,
        "licence": song.licence,
        "source": song.source,
        "caption": made["caption"],
        "duration_s": made["duration_s"],
        "sha256": made["sha256"],
    }


def _read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    """Read what was made at each audio path. Without a readable ledger the result is empty, and all is made again."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _write_json(value: object, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True))
