"""`lumina fingerprint`: the job over a catalog."""

from typing import Annotated, Literal

import typer

from lumina_ray.cli.options import JsonOption, KindOption, ModelOption, RayDeviceOption, chosen_channels
from lumina_ray.cli.output import answer
from lumina_ray.front import jobs


def fingerprint(
    manifest: Annotated[
        str,
        typer.Argument(help="A manifest (.parquet or .csv), or a finished store, whose codes are then used again."),
    ],
    out: Annotated[str, typer.Option(help="The store to write, or to resume: a folder, s3://… or gs://….")],
    model: ModelOption = "nano",
    fingerprint: KindOption | None = None,
    channels: Annotated[Literal["both", "P", "M"], typer.Option(help="One channel alone costs less.")] = "both",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Number format of the model's matrix products; float32 is the reference."),
    ] = "float32",
    device: RayDeviceOption = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Models loaded at once; default: what the cluster holds.")
    ] = None,
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Songs decoded at once; the summary says when more would help.")
    ] = None,
    max_failed_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit with code 3 when more of the songs failed.")
    ] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Fingerprint a catalog: every song of MANIFEST becomes one row of the store. The same command resumes it.

    Example: `lumina fingerprint songs.parquet --out store --model nano`
    """
    summary = jobs.fingerprint(
        manifest,
        out,
        model=model,
        kind=fingerprint,
        channels=chosen_channels(channels),
        dtype=dtype,
        device=device,
        workers=workers,
        decoders=decoders,
        max_failed_fraction=max_failed_fraction,
    )
    answer(summary.to_dict(), summary.sentence, as_json)
