"""`lumina keygen`, `lumina sign`: who stands by a report."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.output import answer
from lumina_ray.storage import local

JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
ReportArgument = Annotated[
    Path, typer.Argument(parser=local, metavar="REPORT", help="A report as `lumina attribute --json` printed it.")
]


def keygen(
    out: Annotated[Path, typer.Option(parser=local, metavar="FILE", help="The private key's file.")],
    as_json: JsonOption = False,
) -> None:
    """Make a key that signs reports: a private file, which only its owner may read, and a public one beside it."""
    from lumina_ray.report.sign import make_key

    public = make_key(out)
    answer(
        {"private_key": str(out), "public_key": str(public)},
        f"{out}: keep it secret. {public}: give it to everybody who is to check reports.",
        as_json,
    )


def sign(
    report: ReportArgument,
    key: Annotated[Path, typer.Option(parser=local, metavar="PEM", help="The private key: `lumina keygen`.")],
    as_json: JsonOption = False,
) -> None:
    """Sign REPORT: writes REPORT.sig beside it."""
    from lumina_ray.report.sign import sign_report

    file = sign_report(report, key)
    answer({"signature": str(file)}, f"{file}", as_json)
