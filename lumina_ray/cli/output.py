"""Answers go to standard output, everything else to standard error, so that `--json` can be piped."""

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lumina_ray.calibration import Calibration


def answer(values: dict, sentence: str, as_json: bool) -> None:
    """Print what a command found, for a machine or for a person."""
    typer.echo(json.dumps(values, sort_keys=True, ensure_ascii=False) if as_json else sentence)


def announce(text: str) -> None:
    """Tell a person what is going on."""
    typer.echo(text, err=True)


def warn_of_collapse(calibration: "Calibration") -> None:
    """Say loudly, on standard error, which channels' fingerprints give all music nearly the same ranking."""
    from lumina_ray.calibration.reliability import warnings

    for warning in warnings(calibration.reliability):
        typer.secho(f"WARNING: {warning}", fg="yellow", bold=True, err=True)
