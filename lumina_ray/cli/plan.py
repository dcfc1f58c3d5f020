"""`lumina plan`: predict time, memory and disk of a job, as a table."""

from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.cli.options import ChannelChoice, JsonOption, KindOption, chosen_channels
from lumina_ray.cli.output import answer
from lumina_ray.front.ray_address import check_ray_address


def plan(
    manifest: Annotated[str, typer.Argument(help="A manifest (.parquet or .csv).")],
    model: Annotated[str, typer.Option(help="See `lumina fingerprint`.")] = "nano",
    fingerprint: KindOption | None = None,
    channels: Annotated[ChannelChoice, typer.Option(help="See `lumina fingerprint`.")] = "both",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="See `lumina fingerprint`.")
    ] = "float32",
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Plan for so many; one must be there. Default: what the cluster has.")
    ] = None,
    decoders: Annotated[int | None, typer.Option(min=1, help="Songs decoded at once.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict time, memory and disk of fingerprinting MANIFEST. Measures for some seconds, on this cluster."""
    check_ray_address()
    from cluster.plan import plan_job
    from lumina_ray.fingerprint.default import default_kind

    found = plan_job(
        manifest,
        model=model,
        kind=fingerprint or default_kind(model),
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
    Console(markup=False).print(table)
