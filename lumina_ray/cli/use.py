"""`lumina use`: was the model trained on the songs of a catalog?"""

from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption
from lumina_ray.cli.output import answer


def use(
    store: Annotated[str, typer.Argument(help="A finished catalog store, or a living catalog.")],
    controls: Annotated[
        str, typer.Option(help="A store of tracks that the model never saw: music of the same kind as the catalog.")
    ],
    reference: Annotated[
        str, typer.Option(help="A model with the same codec that never saw the catalog: a hub name or a folder.")
    ],
    model: Annotated[str | None, typer.Option(help="Where the store's model lies now, if it has moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pairs of models loaded at once; default: what the cluster holds.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Evidence of use: how much likelier the store's model finds each song than a model that never saw it.

    Written beside the store's data as use.parquet; the next `lumina index` takes it in, and reports then say it.
    """
    from cluster.use import measure_use
    from lumina_ray.calibration.use import write_use
    from lumina_ray.storage import locate
    from lumina_ray.store import stream_store

    opened = stream_store(locate(store))
    found = measure_use(opened, stream_store(locate(controls)), reference, model=model, device=device, workers=workers)
    path = write_use(found, opened.path)
    n_songs, n_significant, basis = len(found.songs), found.n_significant, found.basis
    answer(
        {
            "use": str(path),
            "songs": n_songs,
            "significant": n_significant,
            "expected_by_chance": basis.chance * n_songs,
            "n_controls": basis.n_controls,
            "weights_sha256": basis.weights_sha256,
            "reference_weights_sha256": basis.reference_weights_sha256,
        },
        f"{path}: {n_significant} of {n_songs} songs have p ≤ 0.05 by {basis.n_controls} controls; of songs that the "
        f"model never saw, {basis.chance * n_songs:.1f} would",
        as_json,
    )
