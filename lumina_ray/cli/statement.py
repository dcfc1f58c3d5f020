"""`lumina statement`: what many reports say together, for each rights-holder."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import announce
from lumina_ray.storage import local
from lumina_ray.vocabulary import counted

if TYPE_CHECKING:
    from lumina_ray.statement.schema import Statement

_SHOWN = 20


def statement(
    reports: Annotated[
        list[str],
        typer.Argument(
            metavar="REPORTS...",
            help="Reports: files, folders of them, patterns, .ndjson files with one on each line, or - for standard "
            "input.",
        ),
    ],
    by: Annotated[
        Literal["owner", "creator", "song"],
        typer.Option(help="A line for each owner (splits are applied), creator or song."),
    ],
    period: Annotated[
        str,
        typer.Option(help="What it is for: 2026, 2026-Q3, 2026-09 or 2026-07-01/2026-09-30. Reports have no date."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            parser=output_path,
            metavar="FOLDER",
            help="Write JSON, HTML, CSV and Parquet there, and a statement for each rights-holder.",
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="The index folder of a living catalog: reports of all its snapshots are then added up."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(parser=local, metavar="PEM", help="Public key of the signature that each REPORT.sig must hold."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(parser=local, metavar="PEM", help="Private key that signs the statements: `lumina keygen`."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read reports; default: one for each CPU.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add REPORTS up: what each rights-holder gets in each channel, how sure that is, and what nobody gets.

    Example: `lumina statement reports/ --by owner --period 2026-Q3 --out statement`

    All reports must be of one model, policy and catalog. One that is damaged, or does not belong, is an error that
        names it.
    """
    from lumina_ray.statement.files import STATEMENT_FILE, make_files
    from lumina_ray.statement.json import statement_sha256, to_json
    from lumina_ray.statement.reading import usable_cpus

    made = make_files(
        reports, out, by, period, index=index, public_key=public_key, key=key, workers=workers or usable_cpus()
    )
    if as_json:
        sys.stdout.write(to_json(made.statement))
        announce(f"statement sha256 {statement_sha256(made.statement)}")
    else:
        _show(made.statement)
    if out is not None:
        of_holders = f", and {counted(made.holders, 'statement')} of a rights-holder each" if made.holders else ""
        announce(f"{out}: {STATEMENT_FILE}, its page, tables and evidence{of_holders}")


def _show(statement: "Statement") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lumina_ray.report.words import safe
    from lumina_ray.statement import sentences
    from lumina_ray.statement.json import statement_sha256

    console = Console()
    console.print(Text(f"Statement by {statement.by} for {statement.period}", "bold"))
    for sentence in sentences.counts(statement):
        console.print(Text(sentence))
    for name, channel in statement.channels.items():
        title = f"{name} · {channel.subject.capitalize()} ({channel.right} right)"
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        table.add_column("line", overflow="fold", min_width=20)
        for column in ("shares, in clips", "95 % interval", "reports"):
            table.add_column(column, justify="right", no_wrap=True)
        for line in channel.lines[:_SHOWN]:
            table.add_row(
                Text(safe(sentences.line_title(line))),
                sentences.amount(line.micro_shares),
                sentences.interval(line.low, line.high),
                str(line.evidence.reports),
            )
        if len(channel.lines) > _SHOWN:
            table.add_row(Text(counted(len(channel.lines) - _SHOWN, "more line")))
        unattributed = sentences.interval(channel.unattributed_low, channel.unattributed_high)
        table.add_row("unattributed", sentences.amount(channel.unattributed), unattributed, "")
        console.print(table)
    console.print(Text(sentences.certainty(statement), "italic"))
    console.print(Text(f"statement sha256 {statement_sha256(statement)}", "dim"))
