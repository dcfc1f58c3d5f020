"""`lumina keygen`, `lumina sign`: who stands by a report or statement. `lumina verify`: whether it is so."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.exits import CLOSE, DIFFERENT
from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.errors import UsageError
from lumina_ray.storage import local

if TYPE_CHECKING:
    from lumina_ray.statement.schema import Statement

EXIT_CODES = {"identical": 0, "different": DIFFERENT, "close": CLOSE}

ReportArgument = Annotated[
    Path,
    typer.Argument(
        parser=local,
        metavar="REPORT",
        help="A report as `lumina attribute --json` printed it, or a statement as `lumina statement` wrote it.",
    ),
]


def keygen(
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FILE", help="The private key's file.")],
    as_json: JsonOption = False,
) -> None:
    """Make a key that signs reports and statements: a file that only its owner may read, and a public one beside it."""
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
    """Sign REPORT, or a statement: write REPORT.sig beside it.

    Example: `lumina sign report.json --key private.pem`
    """
    from lumina_ray.report.sign import sign_bytes, sign_report

    found = _statement(report)
    if found is None:
        file = sign_report(report, key)
    else:
        from lumina_ray.statement.json import to_json

        file = sign_bytes(to_json(found).encode(), "statement", report, key)
    answer({"signature": str(file)}, f"{file}", as_json)


def verify(
    report: ReportArgument,
    audio: Annotated[str | None, typer.Option(help="Of a report: the file that it is about.")] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="Of a report: the index folder, or the snapshot, that it was made from. Of a statement of several "
            "snapshots: their index folder."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Where the index's model lies now, if it has moved.")] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; the report's gives the report's bits.")
    ] = "auto",
    reports: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REPORTS",
            help="Of a statement: all its reports, as `lumina statement` takes them; may be given several times.",
        ),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(parser=local, metavar="PEM", help="Public key of the signature that REPORT.sig must hold."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute REPORT again: identical (exit code 0), different (5), or close, in another environment (6).

    A statement is checked for its layout, sums and signature, and with --reports added up again.
    """
    found = _statement(report)
    if found is not None:
        _verify_statement(found, report, reports, index, public_key, as_json)
        return
    from lumina_ray.report import read_report
    from lumina_ray.report.sign import check_signature, signature_file
    from lumina_ray.report.verify import verify_report

    claimed, signature = read_report(report), signature_file(report)
    if audio is None or index is None or reports:
        raise UsageError(f"{report}: is a report: give --audio and --index, and no --reports, to compute it again")
    signed = public_key is not None or signature.exists()
    key = check_signature(claimed, signature, public_key) if signed else None
    outcome = verify_report(claimed, audio, index, model=model, device=resolve_device(device))
    answer(outcome.to_dict() | _signed(key, public_key), f"{outcome.sentence}\n{_whose(key, public_key)}", as_json)
    raise typer.Exit(EXIT_CODES[outcome.result])


def _verify_statement(
    claimed: "Statement",
    file: Path,
    reports: list[str] | None,
    index: str | None,
    public_key: Path | None,
    as_json: bool,
) -> None:
    from lumina_ray.report.sign import check_bytes, read_public_key, signature_file
    from lumina_ray.statement.json import to_json
    from lumina_ray.statement.lineage import Lineage
    from lumina_ray.statement.reading import read_reports, usable_cpus
    from lumina_ray.statement.sources import find_reports
    from lumina_ray.statement.verify import check_statement, verify_statement

    signature, key = signature_file(file), None
    if public_key is not None or signature.exists():
        accepted = None if public_key is None else read_public_key(public_key)
        key = check_bytes(to_json(claimed).encode(), "statement", signature, accepted)
    if reports:
        # Where the statement says that all its reports are signed by a key, they must be so again.
        signed_by = claimed.reports.signed_by and bytes.fromhex(claimed.reports.signed_by)
        reads = read_reports(find_reports(reports), usable_cpus(), signed_by or None)
        outcome = verify_statement(claimed, reads, Lineage(index))
    else:
        outcome = check_statement(claimed)
    answer(outcome.to_dict() | _signed(key, public_key), f"{outcome.sentence}\n{_whose(key, public_key)}", as_json)
    raise typer.Exit(EXIT_CODES[outcome.result] if outcome.result else 0)


def _statement(file: Path) -> "Statement | None":
    """The statement that a file holds; None if it holds something else, such as a report."""
    from lumina_ray.files import read_file
    from lumina_ray.statement.json import is_statement, parse_statement

    try:
        data = read_file(file)
    except (OSError, ValueError):
        # Said where a report is looked for.
        return None
    return parse_statement(data, str(file)) if is_statement(data) else None


def _signed(key: str | None, public_key: Path | None) -> dict[str, object]:
    return {"signed_by": key, "signer_known": public_key is not None}


def _whose(key: str | None, public_key: Path | None) -> str:
    if key is None:
        return "Not signed."
    return (
        f"Signed by {'the key that was asked for' if public_key else f'key {key}, whoever has it: --public-key tells'}."
    )
