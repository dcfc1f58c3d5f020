"""`lumina fisher`: how much each weight of a model matters to the catalog that it learned."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption, RayDeviceOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.front.device import check_job_device
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.vocabulary import counted


def fisher(
    store: Annotated[str, typer.Argument(help="A finished store of the model's catalog, of any kind of fingerprint.")],
    model: Annotated[str, typer.Argument(help="The model's own folder, which gets fisher.npz; or a name, with --out.")],
    out: Annotated[
        Path | None,
        typer.Option(parser=output_path, metavar="FILE", help="Another place for it, such as for a bundled model."),
    ] = None,
    device: RayDeviceOption = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Models loaded at once; default: what the cluster holds.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model's diagonal Fisher information over its catalog: what unlearning needs (docs/unlearning.md).

    The mean squared gradient of every weight, over all chunks of all songs. The same command resumes it.
    """
    check_job_device(device)
    check_ray_address()
    from cluster.unlearning import measure_fisher
    from lumina_ray.errors import ModelError
    from lumina_ray.model.files import is_folder
    from lumina_ray.model.fisher import FISHER_FILE
    from lumina_ray.storage import locate
    from lumina_ray.store import stream_store

    # A name such as nano would be opened, and a folder of that name made here, which hides the model from then on.
    if out is None and not is_folder(Path(model)):
        raise ModelError(f"{model}: is not a folder; name the folder of a model of yours, or say where to with --out")
    path = out or Path(model) / FISHER_FILE
    found = measure_fisher(stream_store(locate(store)), model, path.resolve(), device=device, workers=workers)
    answer(
        {"fisher": str(path), "sha256": found.sha256} | found.record,
        f"{path}: of {counted(found.n_songs, 'song')}, {counted(found.n_chunks, 'chunk')}",
        as_json,
    )
