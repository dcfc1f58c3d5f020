"""`lumina effects …`: what leaving a song out of the training costs a query, in nats."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.vocabulary import DEFAULT_METHOD

if TYPE_CHECKING:
    from lumina_ray.truth.effects_fit import Effects

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
    device: Annotated[
        str,
        typer.Option(help="Of fingerprints of a bank of your own model: auto (a GPU where there is one), cpu, cuda."),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Learn from retrained models what scores are worth: fitted on split dev, checked on test."""
    from lumina_ray.truth.effects_fit import save_effects, sentences

    found = _fit(bank, method, device)
    save_effects(found, out)
    answer(asdict(found), "\n".join(sentences(found)), as_json)


def _fit(folder: Path | None, method: str, device: str) -> "Effects":
    from lumina_ray.truth.bank import SHIPPED, load_bank
    from lumina_ray.truth.effects_fit import fit_effects
    from lumina_ray.truth.own_bank import OWN_BANK_FILE, load_own_bank
    from lumina_ray.truth.own_effects import fit_own_effects

    told = "Fingerprints of songs, queries and controls: a minute or more"
    if folder is not None and (folder / OWN_BANK_FILE).is_file():
        own = load_own_bank(folder)
        announce(told)
        return fit_own_effects(own, method, resolve_device(device))
    bank = load_bank(folder or SHIPPED)
    announce(told)
    return fit_effects(bank, method)
