"""`lumina symbolic …`: music as notes."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.errors import UsageError
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.storage import local
from lumina_ray.vocabulary import counted

symbolic = typer.Typer(
    help="Music as notes: features of MIDI files, and a small Music Transformer's ground truth.", no_args_is_help=True
)


@symbolic.command()
def features(
    folder: Annotated[
        Path, typer.Argument(parser=local, metavar="FOLDER", help="A folder with .mid files, at any depth.")
    ],
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FILE", help="The table to write (.parquet).")],
    as_json: JsonOption = False,
) -> None:
    """Write melody, harmony, rhythm, dynamics and texture of each MIDI file as a table for `lumina diagnose`.

    A file that cannot be used has a row, whose `error` says why.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from lumina_ray.files import atomic_path
    from lumina_ray.symbolic.table import feature_rows, midi_files

    table = feature_rows(folder, midi_files(folder))
    failed = [why for why in table["error"].to_pylist() if why]
    if len(failed) == len(table):
        raise UsageError(f"none of {len(failed)} files can be used, such as {failed[0]}")
    with atomic_path(out) as temporary:
        pq.write_table(table, temporary)
    for why in failed:
        announce(why)
    described = pc.sum(pc.is_null(table["error"])).as_py()
    answer(
        {"features": str(out), "songs": described, "failed": len(failed)},
        f"{out}: {counted(described, 'song')}, {len(failed)} failed",
        as_json,
    )


@symbolic.command()
def build(
    out: Annotated[
        Path,
        typer.Option(
            parser=output_path, metavar="FOLDER", help="Folder of the bank; an interrupted build goes on there."
        ),
    ],
    size: Annotated[
        Literal["tiny", "small"],
        typer.Option(help="small: minutes of one core. tiny: to try the commands with."),
    ] = "small",
    as_json: JsonOption = False,
) -> None:
    """Train small Music Transformers on scores and on halves of them, and keep what each makes of the same queries."""
    check_ray_address()
    from cluster.symbolic import build_symbolic_bank
    from lumina_ray.symbolic.recipe import SIZES

    bank = build_symbolic_bank(out, SIZES[size])
    counts = {"pieces": len(bank.names), "models": len(bank.masks_RN), "queries": len(bank.kinds)}
    answer({"bank": str(out)} | counts, f"{out}: " + ", ".join(f"{n} {what}" for what, n in counts.items()), as_json)


@symbolic.command()
def card(
    bank: Annotated[
        Path,
        typer.Argument(
            parser=local,
            metavar="BANK",
            help="What `lumina symbolic build` made, or dattri's folder of downloads.",
        ),
    ],
    recipe: Annotated[
        Literal["own", "dattri"],
        typer.Option(help="own: of `lumina symbolic build`. dattri: of its published benchmark, which takes long."),
    ] = "own",
    device: Annotated[
        str | None,
        typer.Option(help="With --recipe dattri: auto (a GPU where there is one, the default), cpu, cuda or cuda:N."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=output_path, metavar="FILE", help="A file to write the card to (.json).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare TRAK, TracIn, Grad-Cos and Grad-Dot with what retraining says, beside floors and diagnostics."""
    import json

    from rich.console import Console

    from lumina_ray.files import atomic_path
    from lumina_ray.symbolic.bank import load_bank
    from lumina_ray.symbolic.card import SymbolicCard, make_card
    from lumina_ray.symbolic.card_table import print_dattri_card, print_symbolic_card
    from lumina_ray.symbolic.dattri import read_benchmark
    from lumina_ray.symbolic.dattri_card import DattriCard, make_dattri_card

    if recipe == "dattri":
        place = resolve_device(device or "auto")
        made: DattriCard | SymbolicCard = make_dattri_card(read_benchmark(bank), place, announce)
    elif device is not None:
        raise UsageError("--device is of --recipe dattri; a bank of our own holds its gradients")
    else:
        made = make_card(load_bank(bank))
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_text(json.dumps(asdict(made), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    if as_json:
        typer.echo(json.dumps(asdict(made), sort_keys=True, ensure_ascii=False))
    elif isinstance(made, DattriCard):
        print_dattri_card(made, Console())
    else:
        print_symbolic_card(made, Console())
