"""`lumina plan`: predict time, memory and disk of a job, as a table."""

from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.cli.options import ChannelChoice, JsonOption, KindOption, chosen_channels
from lumina_ray.cli.output import answer
from lumina_ray.errors import UsageError
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.vocabulary import Dtype

_MODEL = "nano"
_CHANNELS: ChannelChoice = "both"
_DTYPE: Dtype = "float32"


class Planned(Protocol):
    """A prediction."""

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows of a table for people: quantity, prediction, and what the prediction rests on."""
        ...

    def to_dict(self) -> dict:
        """For machines."""
        ...


def plan(
    manifest: Annotated[str | None, typer.Argument(help="A manifest (.parquet or .csv).")] = None,
    model: Annotated[str, typer.Option(help="See `lumina fingerprint`.")] = _MODEL,
    fingerprint: KindOption | None = None,
    channels: Annotated[ChannelChoice, typer.Option(help="See `lumina fingerprint`.")] = _CHANNELS,
    dtype: Annotated[Dtype, typer.Option(help="See `lumina fingerprint`.")] = _DTYPE,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Plan for so many; one must be there. Default: what the cluster has.")
    ] = None,
    decoders: Annotated[int | None, typer.Option(min=1, help="Songs decoded at once.")] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Instead of a manifest: plan for `lumina attribute AUDIO --replay RUN`."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict time, memory and disk of fingerprinting MANIFEST, or of replays of RUN, from some seconds' measuring."""
    check_ray_address()
    if (manifest is None) == (replay is None):
        raise UsageError("give either a MANIFEST, or --replay RUN")
    if replay is not None:
        if (model, fingerprint, channels, dtype, gpus, decoders) != (_MODEL, None, _CHANNELS, _DTYPE, None, None):
            raise UsageError("with --replay, RUN alone decides: leave the other options out")
        from cluster.replay_plan import plan_replay

        show_plan(plan_replay(replay), as_json)
        return
    assert manifest is not None
    from cluster.plan import plan_job
    from lumina_ray.fingerprint.default import default_kind

    show_plan(
        plan_job(
            manifest,
            model=model,
            kind=fingerprint or default_kind(model),
            channels=chosen_channels(channels),
            dtype=dtype,
            gpus=gpus,
            decoders=decoders,
        ),
        as_json,
    )


def show_plan(found: Planned, as_json: bool) -> None:
    """Print a prediction, for a machine or for a person."""
    if as_json:
        answer(found.to_dict(), "", as_json)
        return
    table = Table("", "prediction", "rests on", box=SIMPLE_HEAD, pad_edge=False)
    for row in found.rows():
        table.add_row(*row)
    Console(markup=False).print(table)
