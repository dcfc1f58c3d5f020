"""Answers go to standard output, everything else to standard error, so that `--json` can be piped."""

import json

import typer


def answer(values: dict, sentence: str, as_json: bool) -> None:
    """Print what a command found, for a machine or for a person."""
    typer.echo(json.dumps(values, sort_keys=True, ensure_ascii=False) if as_json else sentence)


def announce(text: str) -> None:
    """Tell a person what is going on."""
    typer.echo(text, err=True)
