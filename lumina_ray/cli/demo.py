"""`lumina demo`: everything, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import output_path


def demo(
    out: Annotated[
        Path, typer.Option(parser=output_path, metavar="FOLDER", help="Where everything is written.")
    ] = Path("demo-output"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8199,
) -> None:
    """Run the whole system on real music: catalog, fingerprints, calibration, index, endpoint, reports."""
    from lumina_ray.demo.run import run_demo

    run_demo(out, port)
