"""`lumina truth …`: ground truth by retraining."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.output import answer

truth = typer.Typer(
    help="Ground truth: what songs really do to a model, by training it without them.", no_args_is_help=True
)


@truth.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder of the bank; an interrupted build goes on there.")],
    size: Annotated[
        Literal["small", "nano"], typer.Option(help="small: two hours on two cores. nano: for a GPU.")
    ] = "small",
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")] = False,
) -> None:
    """Retrain small models on many parts of a catalog, and keep what each makes of the same queries."""
    from cluster.truth import SIZES, build_bank

    bank = build_bank(out, SIZES[size])
    counts = {"models": len(bank.trainings), "queries": len(bank.queries), "recordings": len(bank.recordings)}
    answer({"bank": str(out)} | counts, f"{out}: " + ", ".join(f"{n} {what}" for what, n in counts.items()), as_json)
