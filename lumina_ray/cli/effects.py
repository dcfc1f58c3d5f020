"""`lumina effects …`: what leaving a song out of the training costs a query, in nats."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.vocabulary import DEFAULT_METHOD

effects = typer.Typer(
    help="Effects in nats: what leaving a song out of the training costs a query.", no_args_is_help=True
)


# Otherwise typer would make the only command of a group the group itself.
@effects.callback()
def _group() -> None:
    pass


@effects.command()
def fit(
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FILE", help="The effects, as JSON.")],
    bank: Annotated[
        Path | None, typer.Argument(help="A ground-truth bank (`lumina truth build`); by default the shipped one.")
    ] = None,
    method: Annotated[str, typer.Option(help="Method whose scores are fitted (`lumina methods`).")] = DEFAULT_METHOD,
    as_json: JsonOption = False,
) -> None:
    """Learn from retrained models what scores are worth: fitted on split dev, checked on test."""
    from lumina_ray.truth.bank import SHIPPED, load_bank
    from lumina_ray.truth.effects_fit import fit_effects, save_effects, sentences

    loaded = load_bank(bank or SHIPPED)
    announce("Fingerprints of songs, queries and controls: a minute or more")
    found = fit_effects(loaded, method)
    save_effects(found, out)
    answer(asdict(found), "\n".join(sentences(found)), as_json)
