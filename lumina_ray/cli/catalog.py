"""`lumina catalog …`: manifests of music."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lumina_ray.cli.output import answer

catalog = typer.Typer(help="Make manifests of music.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


@catalog.command()
def scan(
    folder: Annotated[Path, typer.Argument(help="A folder with audio files, at any depth.")],
    out: Annotated[Path, typer.Option(help="The manifest to write (.parquet or .csv).")],
    as_json: JsonOption = False,
) -> None:
    """Write a manifest of the audio files in FOLDER."""
    from lumina_ray.catalog import scan_folder, write_manifest

    with progress_bar("scanning") as update:
        table = scan_folder(folder, update)
    write_manifest(table, out)
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


@contextmanager
def progress_bar(task: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with an ETA on standard error; yields a function of (done, total, what was just done)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[label]}"), console=Console(stderr=True)) as progress:
        handle = progress.add_task(task, total=None, label="")
        yield lambda done, total, label: progress.update(handle, completed=done, total=total, label=label[:40])
