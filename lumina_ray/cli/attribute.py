"""`lumina attribute`: which songs of an index shaped one audio file, or each of many."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lumina_ray.cli.catalog import progress_bar
from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.exits import SOME_FAILED
from lumina_ray.cli.options import DeviceOption, JsonOption, MovedModelOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.cli.queries import Query, are_many, find_queries
from lumina_ray.errors import AudioError, LuminaError, UnlearningError, UsageError
from lumina_ray.storage import local
from lumina_ray.vocabulary import DEFAULT_CANDIDATES, DEFAULT_POLICY, DEFAULT_TOP_K, counted

if TYPE_CHECKING:
    from lumina_ray.attribution import Report
    from lumina_ray.attribution.confirmation import Confirmation
    from lumina_ray.attribution.replay import Replay

Attribute = Callable[[Query], "Answer"]

# The table with all its columns needs as much.
_WIDE_CHARACTERS = 120


@dataclass(frozen=True)
class Answer:
    """A report, and findings beside it that were asked for."""

    report: "Report"
    confirmation: "Confirmation | None" = None
    replay: "Replay | None" = None

    @property
    def beside(self) -> dict[str, dict]:
        """The findings beside the report, by name, as JSON has them."""
        named = {"confirmation": self.confirmation, "replay": self.replay}
        return {name: found.to_dict() for name, found in named.items() if found is not None}


def attribute(
    audio: Annotated[
        list[str],
        typer.Argument(
            metavar="AUDIO...", help="Audio files, folders of them, or manifests (.parquet, .csv) that list them."
        ),
    ],
    index: Annotated[str | None, typer.Option(help="An index folder (its newest snapshot) or one snapshot.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Instead of an index, an endpoint that has one: `lumina serve`.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The endpoint's API key; better in LUMINA_KEY, where no process list shows it.")
    ] = None,
    policy: Annotated[str, typer.Option(help="calibrated (ours), v8 or v7 (published).")] = DEFAULT_POLICY,
    model: MovedModelOption = None,
    top_k: Annotated[
        int, typer.Option(min=1, help="Most similar songs per channel, which are judged.")
    ] = DEFAULT_TOP_K,
    candidates: Annotated[
        int, typer.Option(min=1, help="Songs per channel that a report lists besides all that qualify.")
    ] = DEFAULT_CANDIDATES,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(parser=output_path, metavar="FOLDER", help="Write each report there, as NAME.json."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            parser=output_path,
            metavar="PAGE",
            help="Also write a self-contained HTML page; of many files, a folder with a page each.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            parser=output_path,
            metavar="FILE",
            help="Also write a table: a row for each query, channel and listed song.",
        ),
    ] = None,
    confirm: Annotated[
        Literal["unlearn"] | None,
        typer.Option(help="unlearn: let the model forget AUDIO, and rank the listed songs by what it loses with it."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="With --confirm: the store that the index was built from, or the living catalog.")
    ] = None,
    fisher: Annotated[
        Path | None,
        typer.Option(help="With --confirm: a file of `lumina fisher`; by default the one beside the model."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="The index's model as `lumina train` made it: also compute what leaving each listed song out of that "
            "training would have done. Takes several trainings' time.",
        ),
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Print all columns, also in a narrow terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the songs of an index that shaped AUDIO: per channel, by how much, and how sure we are.

    Examples: `lumina attribute clip.wav --index index`

    `lumina attribute clips/ --index index --out reports --csv reports.csv`

    One file that cannot be used is an error. Among many, the others go on, and the exit code is 3.
    """
    if confirm is None and (store or fisher):
        raise UsageError("--store and --fisher are for --confirm unlearn")
    if confirm is not None and (store is None) == (url is None):
        raise UsageError(
            "--confirm unlearn takes --store with --index, as the songs' codes are in the store, or --url alone"
        )
    if replay is not None and index is None:
        raise UsageError("--replay takes --index: an endpoint does not train")
    if url is not None and (index, model, device, fisher) == (None, None, "auto", None):
        answering = _endpoint(url, key, policy, top_k, candidates, confirming=confirm is not None)
    elif index is not None and url is None and key is None:
        answering = _index(index, model, device, policy, top_k, candidates, (store, fisher) if store else None, replay)
    else:
        raise UsageError("give either --index, with --model and --device if need be, or --url, with --key if need be")
    if are_many(audio):
        if out is None and csv is None:
            raise UsageError("several files: give --out FOLDER for a report of each, or --csv FILE for one table")
        with answering as ask:
            _attribute_many(find_queries(audio), ask, _Outputs(out, html, csv, replay is not None), as_json)
        return
    (query,) = find_queries(audio)
    with answering as ask:
        found = ask(query)
    _Outputs(out, None, csv, replay is not None).write([(query, found)])
    _show_one(found, html, wide, as_json)


@contextmanager
def _endpoint(
    url: str, key: str | None, policy: str, top_k: int, candidates: int, *, confirming: bool
) -> Iterator[Attribute]:
    from lumina_ray.client import Client

    with Client(url, key) as client:

        def answered(query: Query) -> Answer:
            audio = local(str(query.place))
            if confirming:
                return Answer(*client.confirm(audio, policy, top_k, candidates=candidates))
            return Answer(client.attribute(audio, policy, top_k, candidates=candidates))

        yield answered


@contextmanager
def _index(
    index: str,
    model: str | None,
    device: str,
    policy: str,
    top_k: int,
    candidates: int,
    confirming: tuple[str, Path | None] | None,
    run: Path | None,
) -> Iterator[Attribute]:
    from lumina_ray.front.index import open_index

    opened = open_index(index, model=model, device=resolve_device(device))

    def answered(query: Query) -> Answer:
        report = opened.attribute(query.place, policy, top_k, candidates)
        return Answer(
            report,
            opened.confirm(query.place, report, *confirming) if confirming else None,
            opened.replay(query.place, report, run) if run else None,
        )

    yield answered


def _show_one(found: Answer, html: Path | None, wide: bool, as_json: bool) -> None:
    import json

    from rich.console import Console

    from lumina_ray.report import print_table, render_html, report_sha256, to_json
    from lumina_ray.report.confirmation import print_confirmation
    from lumina_ray.report.replay import print_replay

    report = found.report
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(render_html(report, replay=found.replay), encoding="utf-8")
        announce(f"HTML report: {html}")
    if as_json:
        # A report's own bytes are what its hash is of; findings beside it come after it, each on a line of its own.
        sys.stdout.write(to_json(report))
        lines = [json.dumps(values, sort_keys=True) for values in found.beside.values()]
        sys.stdout.write("".join(f"\n{line}" for line in lines) + "\n" * bool(lines))
        announce(f"report sha256 {report_sha256(report)}")
    else:
        console = Console()
        if wide:
            console.width = max(console.width, _WIDE_CHARACTERS)
        print_table(report, console, wide=wide)
        if found.confirmation is not None:
            print_confirmation(found.confirmation, console)
        if found.replay is not None:
            print_replay(found.replay, console)


@dataclass(frozen=True)
class _Outputs:
    """Where reports are written: folders for JSON and HTML, and a table."""

    out: Path | None
    html: Path | None
    csv: Path | None
    replayed: bool

    def __str__(self) -> str:
        return " and ".join(dict.fromkeys(str(place) for place in (self.out, self.html, self.csv) if place is not None))

    def write(self, answers: Iterable[tuple[Query, Answer]]) -> None:
        """Write reports as they come; the table is there once all are written."""
        from lumina_ray.report.csv import write_csv

        rows = self._write_files(answers)
        if self.csv is not None:
            write_csv(rows, self.csv, replayed=self.replayed)
        else:
            for _ in rows:
                pass

    def _write_files(
        self, answers: Iterable[tuple[Query, Answer]]
    ) -> "Iterator[tuple[str, Report] | tuple[str, Report, Replay]]":
        from lumina_ray.files import atomic_path
        from lumina_ray.report import render_html, to_json
        from lumina_ray.store.run import write_json

        for query, found in answers:
            page = partial(render_html, replay=found.replay)
            for folder, suffix, render in ((self.out, ".json", to_json), (self.html, ".html", page)):
                if folder is not None:
                    with atomic_path(folder / f"{query.name}{suffix}") as temporary:
                        temporary.write_text(render(found.report), encoding="utf-8")
            if self.out is not None:
                for name, values in found.beside.items():
                    write_json(self.out / f"{query.name}.{name}.json", values)
            if found.replay is None:
                yield str(query.place), found.report
            else:
                yield str(query.place), found.report, found.replay


def _attribute_many(queries: list[Query], ask: Attribute, outputs: _Outputs, as_json: bool) -> None:
    from lumina_ray.report import report_sha256

    done: list[dict[str, str]] = []
    failed: list[dict[str, str]] = []

    def answers() -> Iterator[tuple[Query, Answer]]:
        with progress_bar("attributing") as update:
            for count, query in enumerate(queries, start=1):
                try:
                    found = ask(query)
                except LuminaError as error:
                    if not _of_this_file(error):
                        raise
                    failed.append({"audio": str(query.place), "code": error.code, "message": str(error)})
                    announce(f"failed: {error} [{error.code}]")
                else:
                    yield query, found
                    done.append({"audio": str(query.place), "name": query.name, "sha256": report_sha256(found.report)})
                update(count, len(queries), query.name)

    announce(f"{counted(len(queries), 'file')} to attribute.")
    outputs.write(answers())
    sentence = f"{outputs}: {counted(len(done), 'report')}, {len(failed)} failed"
    answer({"reports": done, "failed": failed}, sentence, as_json)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _of_this_file(error: LuminaError) -> bool:
    """Whether the next file may do better. The endpoint gives the causes of `AudioError` as they are."""
    return isinstance(error, AudioError | UnlearningError) or error.code in AudioError.CODES
