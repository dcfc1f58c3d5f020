"""`lumina evaluate`: is what the methods say true?"""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.exits import FLOOR_NOT_BEATEN
from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.front.ray_address import check_ray_address


def evaluate(
    bank: Annotated[
        Path | None,
        typer.Argument(help="A ground-truth bank (`lumina truth build`); by default the shipped one."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this one (`lumina methods`); may be given several times. By default all but unlearning."
        ),
    ] = None,
    split: Annotated[
        Literal["dev", "test"], typer.Option(help="dev is for tuning; what is reported is test.")
    ] = "test",
    out: Annotated[
        Path | None, typer.Option(parser=output_path, metavar="FOLDER", help="Folder for card.json and card.png.")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show the 95 % intervals too; takes a terminal of 260 columns.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare methods of attribution with what retraining says, on a ground-truth bank.

    Exits with code 8 where the default method was judged and does not beat every floor, by paired 95 % intervals.
    """
    from rich.console import Console

    check_ray_address()
    from cluster.evaluate import evaluate as run
    from lumina_ray.methods import BY_VECTORS
    from lumina_ray.truth.bank import SHIPPED, load_bank
    from lumina_ray.truth.card import as_dict, has_failed, save_card
    from lumina_ray.truth.replayed import load_replayed
    from lumina_ray.truth.tables import print_card

    names = method or BY_VECTORS
    folder = bank or SHIPPED
    loaded = load_bank(folder)
    card = run(loaded, names, split, replayed=load_replayed(folder, loaded))
    if out is not None:
        save_card(card, out)
    if as_json:
        typer.echo(json.dumps(as_dict(card), sort_keys=True, ensure_ascii=False))
    else:
        print_card(card, Console(), wide=wide)
    if has_failed(card.rows):
        raise typer.Exit(FLOOR_NOT_BEATEN)
