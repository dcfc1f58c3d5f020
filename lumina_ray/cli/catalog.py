"""`lumina catalog …`: manifests of music."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lumina_ray.cli.options import ChannelChoice, JsonOption, KindName, RayDeviceOption, chosen_channels, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.files import check_lasting
from lumina_ray.front.device import check_job_device
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.storage import local, locate
from lumina_ray.vocabulary import counted

if TYPE_CHECKING:
    from lumina_ray.store.log import Entry

_NOTES = 20

catalog = typer.Typer(help="Manifests of music, and living catalogs, which change.", no_args_is_help=True)


@catalog.command()
def scan(
    folder: Annotated[
        Path, typer.Argument(parser=local, metavar="FOLDER", help="A folder with audio files, at any depth.")
    ],
    out: Annotated[str, typer.Option(help="The manifest to write (.parquet or .csv).")],
    as_json: JsonOption = False,
) -> None:
    """Write a manifest of the audio files in FOLDER, and say which files are not in it. --json names each."""
    from lumina_ray.catalog import scan_folder, write_manifest
    from lumina_ray.catalog.manifest import check_manifest_name
    from lumina_ray.catalog.scan import skipped_sentence

    check_lasting(locate(out))
    # Before every file is read.
    check_manifest_name(out)
    with progress_bar("scanning") as update:
        found = scan_folder(folder, update)
    write_manifest(found.songs, locate(out))
    for note in found.notes[:_NOTES]:
        announce(f"{note.path}: {note.reason}")
    if len(found.notes) > _NOTES:
        announce(f"… and {len(found.notes) - _NOTES} more: --json names them")
    sentences = [f"{out}: {counted(len(found.songs), 'song')}"]
    if found.skipped:
        sentences.append(skipped_sentence(found.skipped))
    answer(
        {
            "manifest": str(out),
            "songs": len(found.songs),
            "skipped": [asdict(one) for one in found.skipped],
            "notes": [asdict(one) for one in found.notes],
        },
        "; ".join(sentences),
        as_json,
    )


@catalog.command()
def demo(
    out: Annotated[
        Path, typer.Option(parser=output_path, metavar="FOLDER", help="The folder to build, or to complete.")
    ] = Path("demo-output/catalog"),
    as_json: JsonOption = False,
) -> None:
    """Render the demo catalog, its controls and its queries from scores that packages bring along."""
    from lumina_ray.demo import build_demo_catalog

    with progress_bar("rendering") as update:
        built = build_demo_catalog(out, update)
    counts = {"catalog": built.n_catalog, "controls": built.n_controls, "queries": built.n_queries}
    sentence = f"{out}: {built.n_catalog} songs, {built.n_controls} controls, {built.n_queries} queries"
    answer({"folder": str(out)} | counts, f"{sentence} ({built.n_rendered} rendered just now)", as_json)


@catalog.command()
def games(
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FOLDER", help="The folder to fill.")] = Path(
        "games"
    ),
    as_json: JsonOption = False,
) -> None:
    """Fetch recorded, freely licensed game soundtracks through apt (Debian and its kin; about 550 MB)."""
    from lumina_ray.demo import fetch_game_soundtracks

    with progress_bar("fetching") as update:
        fetched = fetch_game_soundtracks(out, update)
    answer(
        {"manifest": str(fetched.manifest), "songs": fetched.n_songs},
        f"{fetched.manifest}: {counted(fetched.n_songs, 'song')}",
        as_json,
    )


LivingCatalog = Annotated[
    Path,
    typer.Argument(parser=local, metavar="CATALOG", help="A living catalog: a folder kept by these commands."),
]
ManifestArgument = Annotated[str, typer.Argument(help="A manifest (.parquet or .csv) of these songs alone.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Models loaded at once; default: what the cluster holds.")
]
ReasonOption = Annotated[str | None, typer.Option(help="Why, in one line, for `lumina catalog log`.")]
FailedOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Change nothing, with exit code 3, when more of the songs failed.")
]


@catalog.command()
def add(
    catalog: LivingCatalog,
    manifest: ManifestArgument,
    model: Annotated[str | None, typer.Option(help="Default: the catalog's, or nano for a new one.")] = None,
    fingerprint: Annotated[
        KindName | None,
        typer.Option(help="For a new catalog; default as in `lumina fingerprint`."),
    ] = None,
    channels: Annotated[ChannelChoice | None, typer.Option(help="For a new catalog; default both.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="For a new catalog; default float32.")
    ] = None,
    device: RayDeviceOption = "auto",
    workers: WorkersOption = None,
    max_failed_fraction: FailedOption = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Fingerprint new songs and add them to CATALOG, which is begun if it is not there. Resumable."""
    check_job_device(device)
    check_ray_address()
    from cluster.catalog import CatalogSettings, add_songs

    settings = CatalogSettings(model, fingerprint, channels and chosen_channels(channels), dtype)
    generation, summary = add_songs(
        catalog, locate(manifest), settings, device=device, workers=workers, max_failed_fraction=max_failed_fraction
    )
    _answer_change(catalog, generation.number, f"{generation.change}; {summary.sentence}", as_json)


@catalog.command()
def replace(
    catalog: LivingCatalog,
    manifest: ManifestArgument,
    model: Annotated[str | None, typer.Option(help="Where the catalog's model lies now, if it has moved.")] = None,
    device: RayDeviceOption = "auto",
    workers: WorkersOption = None,
    max_failed_fraction: FailedOption = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Fingerprint songs again whose ids are in CATALOG. The earlier ones leave all answers at once. Resumable."""
    check_job_device(device)
    check_ray_address()
    from cluster.catalog import CatalogSettings, add_songs

    generation, summary = add_songs(
        catalog,
        locate(manifest),
        CatalogSettings(model),
        replacing=True,
        device=device,
        workers=workers,
        max_failed_fraction=max_failed_fraction,
    )
    _answer_change(catalog, generation.number, f"{generation.change}; {summary.sentence}", as_json)


@catalog.command()
def remove(
    catalog: LivingCatalog,
    song_ids: Annotated[list[str], typer.Argument(help="Ids of the songs to take out.")],
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take songs out of CATALOG. They are gone at once from the answers of every index that was built from it."""
    from lumina_ray.index.withdrawn import withdraw_removed
    from lumina_ray.store.changes import remove_songs

    generation = remove_songs(catalog, song_ids, reason)
    told, missing = withdraw_removed(catalog)
    for index in missing:
        announce(f"{index} is gone, or belongs to another catalog now: wherever it is, it may still find these songs")
    told_of = f"; {len(told)} index folders were told" if told else ""
    _answer_change(catalog, generation.number, generation.change + told_of, as_json)


@catalog.command("purge")
def purge_songs(catalog: LivingCatalog, reason: ReasonOption = None, as_json: JsonOption = False) -> None:
    """Delete removed songs from CATALOG for good: rows, codes, vectors, paths. Snapshots of indexes are not touched."""
    from lumina_ray.store.purge import purge
    from lumina_ray.store.purged import purge_file

    done = purge(catalog, reason)
    if done is None:
        answer({"songs": 0, "files": 0}, f"{catalog}: nothing to delete", as_json)
        return
    n_songs = sum(len(songs) for songs in done.songs.values())
    record = purge_file(catalog, done.number)
    answer(
        {"songs": n_songs, "files": len(done.files), "record": str(record)},
        f"{catalog}: {counted(n_songs, 'song')} deleted from {counted(len(done.files), 'file')}, see {record}",
        as_json,
    )


@catalog.command()
def log(catalog: LivingCatalog, as_json: JsonOption = False) -> None:
    """List the changes and purges of CATALOG: when, what, which songs were taken away, why, and by whom."""
    from lumina_ray.store.log import read_log

    entries = read_log(catalog)
    answer({"log": [asdict(entry) for entry in entries]}, "\n".join(map(_log_line, entries)), as_json)


def _log_line(entry: "Entry") -> str:
    number = f"{entry.number:4}" if entry.kind == "generation" else "   –"
    ids = ", ".join(entry.song_ids[:_NOTES]) + (", …" if len(entry.song_ids) > _NOTES else "")
    by, why = (f" by {entry.who}" if entry.who else ""), (f" ({entry.reason})" if entry.reason else "")
    return f"{number}  {entry.created}  {entry.change}{by}{why}" + (f": {ids}" if ids else "")


def _answer_change(catalog: Path, number: int, change: str, as_json: bool) -> None:
    text = f"{catalog}, generation {number}: {change}. `lumina calibrate` and `lumina index` make an index of it"
    answer({"catalog": str(catalog), "generation": number, "change": change}, text, as_json)


@contextmanager
def progress_bar(task: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with an ETA on standard error; yields a function of (done, total, what was just done)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[label]}", markup=False), console=Console(stderr=True)) as progress:
        handle = progress.add_task(task, total=None, label="")
        yield lambda done, total, label: progress.update(handle, completed=done, total=total, label=label[:40])
