"""`lumina train`: fine-tune a model so that influence can be computed by replaying the training."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.front.ray_address import check_ray_address


def train(
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="What is fine-tuned: nano, or a MusicGen in the transformers format.")
    ],
    catalog: Annotated[str, typer.Option(metavar="STORE", help="The songs, fingerprinted with that model.")],
    out: Annotated[
        Path,
        typer.Option(parser=output_path, metavar="RUN", help="Folder of the run; an interrupted one goes on there."),
    ],
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the songs.")] = 4.0,
    batch: Annotated[int, typer.Option(min=1, help="Windows of 10 s in a step.")] = 4,
    rate: Annotated[
        float, typer.Option(min=1e-9, help="Rate of learning at its highest. What is too fast cannot be replayed.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(help="Every random draw follows from it.")] = 0,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only predict time, memory and disk, of the training and of asking it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on the songs of a store, and keep what a replay needs: `lumina attribute --replay RUN`.

    AdamW with a long warm-up in float32, so smoothly that removals add up (docs/replay.md). The model is RUN/model.
    """
    check_ray_address()
    from cluster.train import train as run
    from lumina_ray.replay.plan import Plan
    from lumina_ray.storage import locate
    from lumina_ray.store.stream import stream_store

    store, asked = stream_store(locate(catalog)), Plan(seed=seed, epochs=epochs, batch=batch, rate=rate)
    if plan:
        from cluster.replay_plan import plan_training
        from lumina_ray.cli.plan import show_plan

        show_plan(plan_training(base, store, asked), as_json)
        return
    model = run(base, store, out, asked)
    answer(
        {"run": str(out), "model": str(model)},
        f"{out}: trained and recorded; fingerprint with `--model {model}`, and ask with `lumina attribute --replay "
        f"{out}`",
        as_json,
    )
