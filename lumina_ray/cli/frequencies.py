"""`lumina frequencies`: what a model's music is made of, code by code."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption
from lumina_ray.cli.output import announce, answer


def frequencies(
    store: Annotated[str, typer.Argument(help="A finished store of the model's catalog, of any kind of fingerprint.")],
    model: Annotated[Path, typer.Argument(help="The model's own folder; it gets code_frequencies.npy.")],
    as_json: JsonOption = False,
) -> None:
    """Count how often each code occurs in a catalog, for the `influence` fingerprints of the model that learned it.

    Without it a model's codes count as equally frequent, and `influence` is less true (docs/validity.md).
    """
    from lumina_ray.errors import SpecificationMismatch
    from lumina_ray.model import open_model
    from lumina_ray.model.frequencies import code_frequencies, save_frequencies
    from lumina_ray.storage import locate
    from lumina_ray.store.stream import stored_codes, stream_store

    opened, songs = open_model(str(model)), stream_store(locate(store))
    if songs.specification.weights_sha256 != opened.weights_sha256:
        raise SpecificationMismatch(
            f"{store}: made with weights {songs.specification.weights_sha256[:12]}, {model} has "
            f"{opened.weights_sha256[:12]}; codes mean nothing to another codec: fingerprint it with this model"
        )
    counted = code_frequencies(stored_codes(songs), opened.n_codebooks, opened.codebook_size)
    path = save_frequencies(counted, model)
    announce("influence fingerprints made before are no longer comparable: make those of this model again")
    answer({"frequencies": str(path), "songs": len(songs.songs)}, f"{path}: of {len(songs.songs)} songs", as_json)
