"""`lumina catalog …`: manifests of music."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lumina_ray.cli.options import JsonOption, KindName
from lumina_ray.cli.output import announce, answer
from lumina_ray.storage import local, locate

catalog = typer.Typer(help="Manifests of music, and catalogs that live.", no_args_is_help=True)


@catalog.command()
def scan(
    folder: Annotated[
        Path, typer.Argument(parser=local, metavar="FOLDER", help="A folder with audio files, at any depth.")
    ],
    out: Annotated[str, typer.Option(help="The manifest to write (.parquet or .csv).")],
    as_json: JsonOption = False,
) -> None:
    """Write a manifest of the audio files in FOLDER."""
    from lumina_ray.catalog import scan_folder, write_manifest

    with progress_bar("scanning") as update:
        table = scan_folder(folder, update)
    write_manifest(table, locate(out))
    answer({"manifest": str(out), "songs": len(table)}, f"{out}: {len(table)} songs", as_json)


@catalog.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder to build, or to complete.")] = Path("demo-output/catalog"),
    as_json: JsonOption = False,
) -> None:
    """Render the demo catalog, its controls and its queries from scores that packages bring along."""
    from lumina_ray.catalog import build_demo_catalog

    with progress_bar("rendering") as update:
        built = build_demo_catalog(out, update)
    counts = {"catalog": built.n_catalog, "controls": built.n_controls, "queries": built.n_queries}
    sentence = f"{out}: {built.n_catalog} songs, {built.n_controls} controls, {built.n_queries} queries"
    answer({"folder": str(out)} | counts, f"{sentence} ({built.n_rendered} rendered just now)", as_json)


@catalog.command()
def games(
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("games"),
    as_json: JsonOption = False,
) -> None:
    """Fetch recorded, freely licensed game soundtracks through apt (Debian and its kin; about 550 MB)."""
    from lumina_ray.catalog import fetch_game_soundtracks

    with progress_bar("fetching") as update:
        fetched = fetch_game_soundtracks(out, update)
    answer(
        {"manifest": str(fetched.manifest), "songs": fetched.n_songs},
        f"{fetched.manifest}: {fetched.n_songs} songs",
        as_json,
    )


LivingCatalog = Annotated[
    Path, typer.Argument(parser=local, metavar="CATALOG", help="A living catalog: a folder that these commands keep.")
]
ManifestArgument = Annotated[str, typer.Argument(help="A manifest (.parquet or .csv) of these songs alone.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Models loaded at once; default: what the cluster holds.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
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
        typer.Option(help="Of a new catalog; default influence."),
    ] = None,
    channels: Annotated[Literal["both", "P", "M"] | None, typer.Option(help="Of a new catalog; default both.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="Of a new catalog; default float32.")
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    max_failed_fraction: FailedOption = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Fingerprint new songs and add them to CATALOG, which is begun if it is not there. Resumable."""
    from cluster.catalog import Wanted, add_songs
    from cluster.fingerprint import chosen_channels

    wanted = Wanted(model, fingerprint, channels and chosen_channels(channels), dtype)
    generation, summary = add_songs(
        catalog, locate(manifest), wanted, device=device, workers=workers, max_failed_fraction=max_failed_fraction
    )
    _answer_change(catalog, generation.number, f"{generation.change}; {summary.sentence}", as_json)


@catalog.command()
def replace(
    catalog: LivingCatalog,
    manifest: ManifestArgument,
    model: Annotated[str | None, typer.Option(help="Where the catalog's model lies now, if it has moved.")] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    max_failed_fraction: FailedOption = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Fingerprint songs again whose ids are in CATALOG; what they stood for is gone from search at once. Resumable."""
    from cluster.catalog import Wanted, add_songs

    generation, summary = add_songs(
        catalog,
        locate(manifest),
        Wanted(model),
        replacing=True,
        device=device,
        workers=workers,
        max_failed_fraction=max_failed_fraction,
    )
    _answer_change(catalog, generation.number, f"{generation.change}; {summary.sentence}", as_json)


@catalog.command()
def remove(
    catalog: LivingCatalog,
    song_ids: Annotated[list[str], typer.Argument(help="Ids of songs that are to go.")],
    as_json: JsonOption = False,
) -> None:
    """Take songs out of CATALOG. They are gone at once from the answers of every index that was built from it."""
    from lumina_ray.index.withdrawn import withdraw_removed
    from lumina_ray.store.generations import remove_songs

    generation = remove_songs(catalog, song_ids)
    told, missing = withdraw_removed(catalog)
    for index in missing:
        announce(f"{index} is not where it was, or another catalog's now: what became of it may still find these songs")
    told_of = f"; {len(told)} index folders were told" if told else ""
    _answer_change(catalog, generation.number, generation.change + told_of, as_json)


@catalog.command("purge")
def purge_songs(catalog: LivingCatalog, as_json: JsonOption = False) -> None:
    """Delete removed songs from CATALOG for good: rows, codes, vectors, paths. Snapshots of indexes are not touched."""
    from lumina_ray.store.purge import purge
    from lumina_ray.store.purged import purge_file

    done = purge(catalog)
    if done is None:
        answer({"songs": 0, "files": 0}, f"{catalog}: nothing to delete", as_json)
        return
    n_songs = sum(len(songs) for songs in done.songs.values())
    record = purge_file(catalog, done.number)
    answer(
        {"songs": n_songs, "files": len(done.files), "record": str(record)},
        f"{catalog}: {n_songs} songs deleted from {len(done.files)} files, see {record}",
        as_json,
    )


@catalog.command()
def log(catalog: LivingCatalog, as_json: JsonOption = False) -> None:
    """What happened to CATALOG, generation by generation."""
    from lumina_ray.store.generations import read_generation

    newest = read_generation(catalog).number
    generations = [read_generation(catalog, number) for number in range(1, newest + 1)]
    answer(
        {"generations": [{k: getattr(g, k) for k in ("number", "created", "change", "sha256")} for g in generations]},
        "\n".join(f"{g.number:4}  {g.created}  {g.change}" for g in generations),
        as_json,
    )


def _answer_change(catalog: Path, number: int, change: str, as_json: bool) -> None:
    text = f"{catalog}, generation {number}: {change}. `lumina calibrate` and `lumina index` make an index of it"
    answer({"catalog": str(catalog), "generation": number, "change": change}, text, as_json)


@contextmanager
def progress_bar(task: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with an ETA on standard error; yields a function of (done, total, what was just done)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[label]}"), console=Console(stderr=True)) as progress:
        handle = progress.add_task(task, total=None, label="")
        yield lambda done, total, label: progress.update(handle, completed=done, total=total, label=label[:40])
