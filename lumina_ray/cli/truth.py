"""`lumina truth …`: ground truth by retraining."""

from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.catalog import progress_bar
from lumina_ray.cli.options import JsonOption, ModelOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.vocabulary import DEFAULT_METHOD, counted

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
    method: Annotated[str, typer.Option(help="Method whose best songs are left out.")] = DEFAULT_METHOD,
    top: Annotated[
        list[int] | None, typer.Option(help="How many songs to leave out; may be given several times (1, 3, 5).")
    ] = None,
    queries: Annotated[int, typer.Option(min=2, help="Half are excerpts, half are generated.")] = 8,
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


@truth.command()
def factorial(
    out: Annotated[
        Path,
        typer.Option(
            parser=output_path,
            metavar="FOLDER",
            help="Folder for factorial-SPLIT.json and for codes; no audio.",
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(help="Only this one beside evidence (`lumina methods`); may be given several times."),
    ] = None,
    split: Annotated[
        Literal["dev", "test"], typer.Option(help="dev is for tuning; what is reported is test.")
    ] = "test",
    model: ModelOption = "nano",
    wide: Annotated[
        bool, typer.Option("--wide", help="Show the 95 % intervals too; takes a terminal of 180 columns.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure whether methods follow the score or the sound: every score by every ensemble, rendered once."""
    import json

    from rich.console import Console

    from lumina_ray.model import open_music_model
    from lumina_ray.truth.factorial_music import clips
    from lumina_ray.truth.factorial_rows import (
        DEFAULT_METHODS,
        as_dict,
        check_methods,
        evidence_rows,
        method_rows,
        save_rows,
    )
    from lumina_ray.truth.factorial_set import factorial_set
    from lumina_ray.truth.factorial_table import print_factorial

    names = method or DEFAULT_METHODS
    check_methods(names)
    opened = open_music_model(model)
    with progress_bar("clips") as update:
        total, done = len(clips(split)), count(1)
        of = factorial_set(split, out, opened, lambda clip_id: update(next(done), total, clip_id))
    rows = list(evidence_rows(of))
    for name in names:
        announce(f"{name}: fingerprints of {counted(len(of.clips), 'clip')}")
        rows += method_rows(of, opened, [name])
    save_rows(split, rows, out / f"factorial-{split}.json")
    if as_json:
        typer.echo(json.dumps(as_dict(split, rows), sort_keys=True, ensure_ascii=False))
    else:
        print_factorial(rows, Console(), wide=wide)
