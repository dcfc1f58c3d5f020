"""`lumina methods`: what can be computed, from what, and at what price."""

import json

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.cli.options import JsonOption


def methods(
    as_json: JsonOption = False,
) -> None:
    """List the methods of attribution: what each needs, and how many numbers it keeps of a song."""
    from lumina_ray.methods.describe import describe_methods

    rows = describe_methods()
    if as_json:
        typer.echo(json.dumps(rows, sort_keys=True, ensure_ascii=False))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold", no_wrap=column == "method")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console = Console()
    console.print(table)
    console.print(
        "needs: the fingerprint first. numbers: of a song and channel under MusicGen large, for every checkpoint. "
        "cost: a forward pass over the catalog or one with its backward pass, for every checkpoint; "
        "then what is done with N vectors of D numbers."
    )
