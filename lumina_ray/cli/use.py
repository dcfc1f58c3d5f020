"""`lumina use`: was the model trained on the songs of a catalog?"""

from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption, RayDeviceOption
from lumina_ray.cli.output import answer
from lumina_ray.front.device import check_job_device
from lumina_ray.front.ray_address import check_ray_address


def use(
    store: Annotated[str, typer.Argument(help="A finished catalog store, or a living catalog.")],
    controls: Annotated[
        str, typer.Option(help="A store of tracks that the model never saw: music of the same kind as the catalog.")
    ],
    reference: Annotated[
        list[str],
        typer.Option(
            help="A model with the same codec that never saw the catalog: a hub name or a folder. Give several, each "
            "with --reference, for more power."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Where the store's model lies now, if it has moved.")] = None,
    device: RayDeviceOption = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers, each with all models; default: what the cluster holds."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure membership evidence: how much likelier the model finds each song than models that never saw it.

    It is written beside the store's data as membership.parquet. The next `lumina index` includes it.
    """
    check_job_device(device)
    check_ray_address()
    from lumina_ray.calibration.membership import check_references, write_membership

    check_references(reference)
    from cluster.membership import measure_membership
    from lumina_ray.storage import locate
    from lumina_ray.store import stream_store

    opened = stream_store(locate(store))
    found = measure_membership(
        opened, stream_store(locate(controls)), reference, model=model, device=device, workers=workers
    )
    path = write_membership(found, opened.path)
    n_songs, n_significant, basis = len(found.songs), found.n_significant, found.basis
    answer(
        {
            "membership": str(path),
            "songs": n_songs,
            "significant": n_significant,
            "expected_by_chance": basis.chance * n_songs,
            "n_controls": basis.n_controls,
            "weights_sha256": basis.weights_sha256,
            "references_weights_sha256": list(basis.references_weights_sha256),
        },
        f"{path}: {n_significant} of {n_songs} songs have p ≤ 0.05 by {basis.n_controls} controls; of songs that the "
        f"model never saw, {basis.chance * n_songs:.1f} would",
        as_json,
    )
