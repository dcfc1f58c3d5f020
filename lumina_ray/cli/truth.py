"""`lumina truth …`: ground truth by retraining."""

from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lumina_ray.cli.catalog import progress_bar
from lumina_ray.cli.options import JsonOption, ModelOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.errors import UsageError
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.vocabulary import DEFAULT_METHOD, counted

if TYPE_CHECKING:
    from lumina_ray.truth.retrainings import Retrainings

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
        Literal["small", "nano"] | None, typer.Option(help="small (default): hours on two cores. nano: for a GPU.")
    ] = None,
    family: Annotated[
        Literal["musicgen", "dit"],
        typer.Option(
            help="Models that are trained: MusicGens, or diffusion transformers on latents (docs/diffusion.md)."
        ),
    ] = "musicgen",
    base: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A bank of your own model: what is fine-tuned, a MusicGen (docs/banks.md)."),
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(metavar="STORE", help="With --base: its catalog, fingerprinted with it.")
    ] = None,
    controls: Annotated[
        str | None, typer.Option(metavar="STORE", help="With --base: 20 tracks or more that are in no catalog.")
    ] = None,
    halves: Annotated[
        int | None, typer.Option(min=8, help="With --base: models without a random half of the songs; default 64.")
    ] = None,
    removals: Annotated[
        int | None, typer.Option(min=8, help="With --base: models without a random tenth; default 32.")
    ] = None,
    singles: Annotated[
        int | None, typer.Option(min=0, help="With --base: models without one song; default 16.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=2, help="With --base: of each of these, trained once more; default 4.")
    ] = None,
    pieces: Annotated[
        int | None, typer.Option(min=0, help="With --base: of each kind, made up by the model; default 48.")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0.01, help="With --base: passes over the songs of each training; default 4.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="With --base: only predict how many models, hours and bytes it takes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Retrain small models on many parts of a catalog, and keep what each makes of the same queries.

    With --base, fine-tune a model of yours on the songs of a store and on parts of them: `lumina effects fit BANK` then
    tells what its songs are worth in nats.
    """
    check_ray_address()
    asked: dict[str, Any] = {
        "epochs": epochs, "halves": halves, "removals": removals,
        "singles": singles, "repeats": repeats, "pieces": pieces,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    if base is None:
        if catalog or controls or plan or given:
            named = ", ".join(f"--{name}" for name in ("catalog", "controls", "plan", *given))
            raise UsageError(f"{named} are for a bank of your own model: name it with --base")
        if family == "dit":
            if size:
                raise UsageError("--size is of MusicGens; diffusion transformers have one size: leave it out")
            from cluster.dit_truth import build_dit_bank

            _answer(out, build_dit_bank(out), as_json)
            return
        from cluster.truth import SIZES, build_bank

        _answer(out, build_bank(out, SIZES[size or "small"]), as_json)
        return
    if family == "dit":
        raise UsageError("--base is of a MusicGen; leave out --family dit")
    if size or not (catalog and controls):
        raise UsageError("--base takes --catalog and --controls, both fingerprinted with that model, and no --size")
    from lumina_ray.storage import locate
    from lumina_ray.store.stream import stream_store
    from lumina_ray.truth.bank import BASE
    from lumina_ray.truth.own_recipe import WHOLE, OwnRecipe

    recipe = OwnRecipe(**given)
    stores = stream_store(locate(catalog)), stream_store(locate(controls))
    if plan:
        from cluster.own_plan import plan_own_bank

        planned = plan_own_bank(base, stores[0], recipe)
        answer(asdict(planned), planned.sentence, as_json)
        return
    from cluster.own_truth import build_own_bank

    own = build_own_bank(base, *stores, out, recipe)
    kinds = sorted({query.kind for query in own.queries})
    of_losses = {kind: [own.loss_of(name, kind) for name in (BASE, WHOLE)] for kind in kinds}
    facts = {"models": len(own.trainings) - 1, "queries": len(own.queries), "songs": len(own.recordings)}
    answer(
        {"bank": str(out), "model": str(own.model), "losses": of_losses} | facts,
        f"{out}: "
        + ", ".join(f"{n} {what}" for what, n in facts.items())
        + "; losses before and after learning the catalog, in nats per code: "
        + ", ".join(f"{kind} {before:.3f} → {after:.3f}" for kind, (before, after) in of_losses.items())
        + f"; the model that learned it is {own.model}",
        as_json,
    )


def _answer(out: Path, bank: "Retrainings", as_json: bool) -> None:
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
