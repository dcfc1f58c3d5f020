"""`lumina train-nano`: train the two bundled models again, or two alike on another catalog."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.errors import UsageError
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.storage import local


def train_nano(
    catalog: Annotated[Path, typer.Option(parser=local, metavar="MANIFEST", help="Songs to train on.")],
    controls: Annotated[
        Path, typer.Option(parser=local, metavar="MANIFEST", help="Songs never trained on, for held-out losses.")
    ],
    out: Annotated[
        Path,
        typer.Option(parser=output_path, metavar="FOLDER", help="Where checkpoints, models and figures are written."),
    ],
    stage: Annotated[
        Literal["all", "codec", "lm", "dit"],
        typer.Option(
            help="Models to train: codec and language model (all), one of them, or the diffusion transformer nano-dit. "
            "The last two need OUT/codec."
        ),
    ] = "all",
    codec: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Take the codec of this model (nano, a hub name or a folder); train none."),
    ] = None,
    codec_steps: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Steps of the autoencoder, and of the decoder alone. Default: as for the bundled weights."),
    ] = None,
    lm_steps: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Steps in all, and of the early checkpoint. Default: as for the bundled weights."),
    ] = None,
    dit_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the diffusion transformer. Default: as for the bundled weights.")
    ] = None,
    report_every: Annotated[int, typer.Option(min=1, help="Steps between reports and checkpoints.")] = 50,
    seed: Annotated[int, typer.Option(help="Every random draw follows from it.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads. The bundled weights took 1; the last bits depend on it.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train a codec and a language model on a catalog, and write both models as transformers folders. Resumable.

    `--stage dit` trains a latent diffusion transformer instead, and writes it as a diffusers folder.

    Captions of the manifest (column `caption`) teach the language model what text means.
    """
    if codec is not None and codec_steps:
        raise UsageError("--codec takes a trained codec, which --codec-steps would train: give one of the two")
    check_ray_address()
    from cluster.train_nano import train_nano as train
    from lumina_ray.training.codec import CodecSchedule
    from lumina_ray.training.dit import DitSchedule
    from lumina_ray.training.lm import LmSchedule

    train(
        catalog,
        controls,
        out,
        stage=stage,
        codec_of=codec,
        codec=CodecSchedule(*codec_steps) if codec_steps else CodecSchedule(),
        lm=LmSchedule(*lm_steps) if lm_steps else LmSchedule(),
        dit=DitSchedule(dit_steps) if dit_steps else DitSchedule(),
        report_every=report_every,
        seed=seed,
        threads=threads,
    )
    model = out / ("nano-dit" if stage == "dit" else "nano")
    answer({"folder": str(out)}, f"{out}: trained; `lumina fingerprint … --model {model}` uses it", as_json)
