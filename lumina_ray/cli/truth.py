"""`lumina truth …`: ground truth by retraining."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.front.ray_address import check_ray_address

truth = typer.Typer(
    help="Ground truth: what songs really do to a model, by training it without them.", no_args_is_help=True
)


@truth.command()
def build(
    out: Annotated[
        Path,
        typer.Option(
            parser=output_path, metavar="FOLDER", help="Folder of the bank; an interrupted build goes on there."
        ),
    ],
    size: Annotated[
        Literal["small", "nano"], typer.Option(help="small: hours on two cores. nano: for a GPU.")
    ] = "small",
    as_json: JsonOption = False,
) -> None:
    """Retrain small models on many parts of a catalog, and keep what each makes of the same queries."""
    check_ray_address()
    from cluster.truth import SIZES, build_bank

    bank = build_bank(out, SIZES[size])
    counts = {"models": len(bank.trainings), "queries": len(bank.queries), "recordings": len(bank.recordings)}
    answer({"bank": str(out)} | counts, f"{out}: " + ", ".join(f"{n} {what}" for what, n in counts.items()), as_json)


@truth.command()
def ablate(
    out: Annotated[
        Path,
        typer.Option(
            parser=output_path, metavar="FOLDER", help="Folder for ablation.json; an interrupted run goes on there."
        ),
    ],
    bank: Annotated[
        Path | None, typer.Argument(help="A ground-truth bank (`lumina truth build`); by default the shipped one.")
    ] = None,
    method: Annotated[str, typer.Option(help="Method whose best songs are left out.")] = "influence",
    top: Annotated[
        list[int] | None, typer.Option(help="How many songs to leave out; may be given several times (1, 3, 5).")
    ] = None,
    queries: Annotated[
        int, typer.Option(min=2, help="Half are excerpts, half are generated where the bank has sound generated ones.")
    ] = 8,
    random_removals: Annotated[
        int, typer.Option(min=5, help="Trainings without songs drawn at random, for each number of songs.")
    ] = 8,
    as_json: JsonOption = False,
) -> None:
    """Retrain without the songs that a method names for a query: does the query get harder to predict?"""
    check_ray_address()
    from cluster.ablation import SIZES, ablate
    from lumina_ray.truth.ablation import sentence
    from lumina_ray.truth.bank import SHIPPED, load_bank

    found = ablate(load_bank(bank or SHIPPED), out, method, top or SIZES, queries, random_removals)
    answer({"ablations": [asdict(one) for one in found]}, "\n".join(map(sentence, found)), as_json)
