"""`lumina keygen`, `lumina sign`: who stands by a report. `lumina verify`: whether it is so."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.exits import CLOSE, DIFFERENT
from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.storage import local

EXIT_CODES = {"identical": 0, "different": DIFFERENT, "close": CLOSE}

ReportArgument = Annotated[
    Path, typer.Argument(parser=local, metavar="REPORT", help="A report as `lumina attribute --json` printed it.")
]


def keygen(
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FILE", help="The private key's file.")],
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
    """Sign REPORT: write REPORT.sig beside it.

    Example: `lumina sign report.json --key private.pem`
    """
    from lumina_ray.report.sign import sign_report

    file = sign_report(report, key)
    answer({"signature": str(file)}, f"{file}", as_json)


def verify(
    report: ReportArgument,
    audio: Annotated[str, typer.Option(help="The file that the report is about.")],
    index: Annotated[str, typer.Option(help="The index folder, or the snapshot, that the report was made from.")],
    model: Annotated[str | None, typer.Option(help="Where the index's model lies now, if it has moved.")] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; the report's gives the report's bits.")
    ] = "auto",
    public_key: Annotated[
        Path | None,
        typer.Option(parser=local, metavar="PEM", help="Public key of the signature that REPORT.sig must hold."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute REPORT again: identical (exit code 0), different (5), or close, in another environment (6)."""
    from lumina_ray.report import read_report
    from lumina_ray.report.sign import check_signature, signature_file
    from lumina_ray.report.verify import verify_report

    claimed, signature = read_report(report), signature_file(report)
    signed = public_key is not None or signature.exists()
    key = check_signature(claimed, signature, public_key) if signed else None
    found = verify_report(claimed, audio, index, model=model, device=resolve_device(device))
    whose = "the key that was asked for" if public_key else f"key {key}, whoever has it: --public-key tells"
    answer(
        found.to_dict() | {"signed_by": key, "signer_known": public_key is not None},
        f"{found.sentence}\n{f'Signed by {whose}.' if signed else 'Not signed.'}",
        as_json,
    )
    raise typer.Exit(EXIT_CODES[found.result])
