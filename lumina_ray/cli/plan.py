"""`lumina plan`: what a job will take, as a table."""

from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.cli.options import JsonOption, KindName
from lumina_ray.cli.output import answer


def plan(
    manifest: Annotated[str, typer.Argument(help="A manifest (.parquet or .csv).")],
    model: Annotated[str, typer.Option(help="As of `lumina fingerprint`.")] = "nano",
    fingerprint: Annotated[
        KindName,
        typer.Option(help="As of `lumina fingerprint`."),
    ] = "influence",
    channels: Annotated[Literal["both", "P", "M"], typer.Option(help="As of `lumina fingerprint`.")] = "both",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="As of `lumina fingerprint`.")
    ] = "float32",
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Plan for so many; one must be there. Default: what the cluster has.")
    ] = None,
    decoders: Annotated[int | None, typer.Option(min=1, help="Songs decoded at once.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What fingerprinting MANIFEST will take: time, memory, disk. Measures for some seconds, on this cluster."""
    from cluster.fingerprint import absolute_model, chosen_channels
    from cluster.plan import plan_job
    from lumina_ray.storage import locate

    found = plan_job(
        locate(manifest),
        model=absolute_model(model),
        kind=fingerprint,
        channels=chosen_channels(channels),
        dtype=dtype,
        gpus=gpus,
        decoders=decoders,
    )
    if as_json:
        answer(found.to_dict(), "", as_json)
        return
    table = Table("", "prediction", "rests on", box=SIMPLE_HEAD, pad_edge=False)
    for row in found.rows():
        table.add_row(*row)
    Console().print(table)
