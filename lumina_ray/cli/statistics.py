"""`lumina statistics`: what the music that a model learned from has in common."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import JsonOption
from lumina_ray.cli.output import announce, answer


def statistics(
    store: Annotated[str, typer.Argument(help="A finished store of the model's catalog, of any kind of fingerprint.")],
    model: Annotated[Path, typer.Argument(help="The model's own folder; it gets music_statistics.npz.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find out what the songs of a catalog have in common, for `influence` fingerprints of the model that learned it.

    How often each code occurs, counted over all songs, and the directions that their fingerprints share, from at most
    4096 of them. Without it `influence` is less true (docs/validity.md).
    """
    from lumina_ray.cli.catalog import progress_bar
    from lumina_ray.errors import SpecificationMismatch
    from lumina_ray.fingerprint.catalog_statistics import catalog_statistics
    from lumina_ray.model import open_model
    from lumina_ray.model.statistics import save_statistics
    from lumina_ray.storage import locate
    from lumina_ray.store.stream import stored_codes, stream_store

    opened, songs = open_model(str(model), resolve_device(device)), stream_store(locate(store))
    if songs.specification.weights_sha256 != opened.weights_sha256:
        raise SpecificationMismatch(
            f"{store}: made with weights {songs.specification.weights_sha256[:12]}, {model} has "
            f"{opened.weights_sha256[:12]}; codes mean nothing to another codec: fingerprint it with this model"
        )
    with progress_bar("fingerprints") as update:
        found = catalog_statistics(opened, lambda: stored_codes(songs), songs.places.tolist(), update)
    path = save_statistics(found, model)
    announce("influence fingerprints made before are no longer comparable: make those of this model again")
    answer({"statistics": str(path), "songs": len(songs.songs)}, f"{path}: of {len(songs.songs)} songs", as_json)
