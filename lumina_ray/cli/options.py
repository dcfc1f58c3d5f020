"""Options that several commands have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lumina_ray.files import check_lasting
from lumina_ray.fingerprint.kinds import KIND_NAMES
from lumina_ray.storage import AnyPath, local
from lumina_ray.vocabulary import CHANNELS, Channel

JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
# Made from the table, so that a new kind is offered everywhere; type checkers see a plain name.
if TYPE_CHECKING:
    KindName = str
else:
    KindName = Literal[KIND_NAMES]
KindOption = Annotated[
    KindName,
    typer.Option(
        help="companion or influence (ours), stats (LUMINA v8), jl (LUMINA v7), or the one that another method needs: "
        "see `lumina methods`. By default companion for a model that comes with companion.npz, else influence; of "
        "latents, gradient."
    ),
]

DeviceOption = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N.")]
RayDeviceOption = Annotated[
    str,
    typer.Option(help="auto (GPUs where there are any), cpu or cuda. Which GPU a worker gets is up to Ray."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        help="nano, nano-early, nano-reference, nano-dit, a hub name such as facebook/musicgen-large, or a folder; "
        "audiocraft:NAME loads it through audiocraft."
    ),
]
MovedModelOption = Annotated[str | None, typer.Option(help="Where the index's model lies now, if it has moved.")]
IndexOption = Annotated[str, typer.Option(help="An index folder (its newest snapshot) or one snapshot.")]


def output_path(text: AnyPath) -> Path:
    """Parse an option that names a file or folder to write.

    Raises:
        UsageError: it is an address in a bucket, or lies where Ray deletes it after the job.
    """
    path = local(text)
    check_lasting(path)
    return path


ChannelChoice = Literal["both", "P", "M"]


def chosen_channels(choice: ChannelChoice) -> tuple[Channel, ...]:
    """The channels that `--channels` stands for."""
    return CHANNELS if choice == "both" else (choice,)
