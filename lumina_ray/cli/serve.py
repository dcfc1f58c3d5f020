"""`lumina serve`: the endpoint on this machine."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import IndexOption, MovedModelOption, RayDeviceOption
from lumina_ray.front.device import check_job_device
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.storage import locate


def serve(
    index: IndexOption,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Loopback by default; any other address wants --keys.")] = "127.0.0.1",
    keys: Annotated[
        Path | None, typer.Option(help="File of the API keys that requests must carry: see `lumina keys add`.")
    ] = None,
    open_access: Annotated[
        bool, typer.Option("--open", help="Ask for no key: whoever is on this machine may use the endpoint.")
    ] = False,
    model: MovedModelOption = None,
    device: RayDeviceOption = "auto",
    store: Annotated[
        str | None,
        typer.Option(help="The store that the index was built from, to confirm reports by forgetting."),
    ] = None,
    fisher: Annotated[
        Path | None, typer.Option(help="With --store: a file of `lumina fisher`; by default the one beside the model.")
    ] = None,
) -> None:
    """Answer attribution requests over HTTP until interrupted.

    Example: `lumina serve --index index --open`, then open http://127.0.0.1:8000/ in a browser.
    """
    check_job_device(device)
    check_ray_address()
    from lumina_ray.index import newest_snapshot
    from serve.app import ServeArgs, start

    where: Literal["cpu", "cuda"] = "cuda" if resolve_device(device) == "cuda" else "cpu"
    args = ServeArgs(
        index=newest_snapshot(locate(index)).resolve(),
        model=model,
        device=where,
        keys=keys,
        open_access=open_access,
        store=store,
        fisher=fisher,
    )
    start(args, host=host, port=port)
