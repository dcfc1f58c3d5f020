"""`lumina demo`: everything, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lumina_ray.cli.options import output_path
from lumina_ray.model.files import BUNDLED, REFERENCE

# Made from the list, so that a new model is offered; type checkers see a plain name.
if TYPE_CHECKING:
    BundledName = str
else:
    BundledName = Literal[tuple(name for name in BUNDLED if name != REFERENCE)]


def demo(
    out: Annotated[
        Path, typer.Option(parser=output_path, metavar="FOLDER", help="Where everything is written.")
    ] = Path("demo-output"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8199,
    model: Annotated[
        BundledName,
        typer.Option(help="The model, trained on the demo's catalog. nano-dit takes several times as long."),
    ] = "nano",
) -> None:
    """Run the whole system on real music: catalog, fingerprints, calibration, index, endpoint, reports."""
    from lumina_ray.demo.run import run_demo

    run_demo(out, port, model)
