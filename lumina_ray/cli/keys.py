"""`lumina keys`: who may use the endpoint."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import announce, answer

keys = typer.Typer(help="API keys of the endpoint.", no_args_is_help=True)

FileOption = Annotated[
    Path,
    typer.Option(parser=output_path, metavar="FILE", help="The file of keys that `lumina serve --keys` is given."),
]
NameArgument = Annotated[str, typer.Argument(help="Who the key is for: letters, digits, dots, dashes, underscores.")]


@keys.command()
def add(
    name: NameArgument,
    file: FileOption,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute; default: no limit.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it once; the file keeps only its hash."""
    from serve.keys import add_key

    key = add_key(file, name, per_minute)
    announce("Keep it: it is not stored and cannot be shown again.")
    answer({"name": name, "key": key}, key, as_json)


@keys.command("list")
def list_(file: FileOption, as_json: JsonOption = False) -> None:
    """List who has a key, and how often each may be used."""
    from serve.keys import read_keys

    found = read_keys(file)
    lines = [f"{key.name}  {f'{key.per_minute} a minute' if key.per_minute else 'no limit'}" for key in found]
    answer(
        {"keys": [{"name": key.name, "per_minute": key.per_minute} for key in found]},
        "\n".join(lines) or "Nobody has a key.",
        as_json,
    )


@keys.command()
def revoke(name: NameArgument, file: FileOption, as_json: JsonOption = False) -> None:
    """Revoke a key: endpoints that use the file refuse it from their next request on."""
    from serve.keys import revoke_key

    revoke_key(file, name)
    answer({"revoked": name}, f"{name}'s key is revoked.", as_json)
