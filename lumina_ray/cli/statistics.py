"""`lumina statistics`: what the music that a model learned from has in common."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import DeviceOption, JsonOption
from lumina_ray.cli.output import announce, answer
from lumina_ray.vocabulary import counted


def statistics(
    store: Annotated[str, typer.Argument(help="A finished store of the model's catalog, of any kind of fingerprint.")],
    model: Annotated[Path, typer.Argument(help="The model's own folder, which gets the file.")],
    companion: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="For `companion` fingerprints: an earlier checkpoint of the model, or the model that a fine-tuning "
            "began from; up to 3 times.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find out what the songs of a catalog have in common, for `influence` fingerprints of the model that learned it.

    How often each code occurs, counted over all songs, and the directions that their fingerprints share, from at most
    4096 of them: music_statistics.npz. Without it `influence` is less true (docs/validity.md).

    With --companion, what `companion` fingerprints need, from at most 2048 songs: companion.npz. Companions are earlier
    checkpoints of the same training, and the model that a fine-tuning began from (docs/fingerprints.md).
    """
    from lumina_ray.cli.catalog import progress_bar
    from lumina_ray.errors import ModelError, SpecificationMismatch
    from lumina_ray.fingerprint.companion_statistics import measure_companions
    from lumina_ray.fingerprint.music_statistics import measure_music_statistics
    from lumina_ray.model import open_music_model
    from lumina_ray.model.companion import save_companions
    from lumina_ray.model.files import absolute_model, is_folder
    from lumina_ray.model.statistics import save_statistics
    from lumina_ray.storage import locate
    from lumina_ray.store.stream import stored_codes, stream_store

    # A name such as nano would be opened, and a folder of that name made here, which hides the model from then on.
    if not is_folder(model):
        raise ModelError(f"{model}: is not a folder; name the folder of a model of yours, which gets the statistics")
    opened, songs = open_music_model(str(model.resolve()), resolve_device(device)), stream_store(locate(store))
    if songs.specification.weights_sha256 != opened.weights_sha256:
        raise SpecificationMismatch(
            f"{store}: made with weights {songs.specification.weights_sha256[:12]}, {model} has "
            f"{opened.weights_sha256[:12]}; codes mean nothing to another codec: fingerprint it with this model"
        )
    places = songs.places.tolist()
    if not companion:
        with progress_bar("fingerprints") as update:
            path = save_statistics(measure_music_statistics(opened, lambda: stored_codes(songs), places, update), model)
    else:
        # Another process may have another current folder, and must take the same adapter.
        names = [absolute_model(name) for name in companion]
        others = [open_music_model(name, str(opened.device)) for name in names]
        seen = {opened.weights_sha256: str(model)}
        for name, other in zip(companion, others, strict=True):
            if other.weights_sha256 in seen:
                raise SpecificationMismatch(
                    f"{name}: has the weights of {seen[other.weights_sha256]} ({other.weights_sha256[:12]}); name an "
                    "earlier checkpoint, which has learned less"
                )
            seen[other.weights_sha256] = name
        with progress_bar("gradients") as update:
            measured = measure_companions(opened, others, stored_codes(songs), places, update)
        path = save_companions(replace(measured, names=tuple(names)), model)
    kind = "companion" if companion else "influence"
    announce(f"{kind} fingerprints made before are no longer comparable: make those of this model again")
    found = {"companions" if companion else "statistics": str(path), "songs": len(places)}
    answer(found, f"{path}: of {counted(len(places), 'song')}", as_json)
