"""`lumina forget`: a copy of a model that has forgotten some songs, approximately."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import DeviceOption, JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.errors import UsageError

# Songs of the rest and of the controls that are measured; the drawn ones follow from the forgotten songs' ids.
_MEASURED = 100


def forget(
    model: Annotated[str, typer.Argument(help="The model: a folder in the transformers format, or a bundled name.")],
    songs: Annotated[
        list[str], typer.Option(help="Ids of songs, with commas between them, or a text file with one on each line.")
    ],
    store: Annotated[str, typer.Option(help="A finished store of the model's catalog, which holds the songs' codes.")],
    out: Annotated[
        Path, typer.Option(parser=output_path, metavar="FOLDER", help="Folder for the copy; it must not be there.")
    ],
    controls: Annotated[
        str | None, typer.Option(help="A store of tracks that the model never saw, to measure as well.")
    ] = None,
    fisher: Annotated[
        Path | None, typer.Option(help="A file of `lumina fisher`; by default the one beside the model.")
    ] = None,
    nats: Annotated[float, typer.Option(min=0.0, help="How far the songs' loss is to rise, in nats per code.")] = 0.05,
    layers: Annotated[
        Literal["cross_kv", "cross", "self", "mlp", "layers", "heads", "all"],
        typer.Option(help="The weights that forget."),
    ] = "heads",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write a copy of MODEL that has forgotten songs: an approximation of a training without them (opt-out).

    What it did to these songs, to others and to controls is printed and written beside the copy as forgotten.json.
    """
    import numpy as np

    from lumina_ray.errors import SpecificationMismatch
    from lumina_ray.model import open_model
    from lumina_ray.model.fisher import fisher_of, load_fisher
    from lumina_ray.storage import locate
    from lumina_ray.store.stream import codes_of, stream_store
    from lumina_ray.unlearning.forget import FORGET_STEPS, check_copy
    from lumina_ray.unlearning.forget import forget as forget_songs
    from lumina_ray.unlearning.unlearn import Forgetting

    how = Forgetting(layers=layers, trust_nats=nats, steps=FORGET_STEPS)
    opened, catalog = open_model(model, resolve_device(device)), stream_store(locate(store))
    check_copy(opened, out)
    if fisher is not None:
        opened.fisher = load_fisher(fisher)
    information, ids = fisher_of(opened), _ids(songs)
    stores = {"rest": catalog} | ({"controls": stream_store(locate(controls))} if controls else {})
    for one in stores.values():
        if one.specification.weights_sha256 != opened.weights_sha256:
            raise SpecificationMismatch(
                f"{one.path} was made with weights {one.specification.weights_sha256[:12]}, {model} has "
                f"{opened.weights_sha256[:12]}; fingerprint it with this model"
            )
    rng, groups = np.random.default_rng(0), {}
    for name, one in stores.items():
        others = sorted(set(one.song_ids) - set(ids))
        drawn = [others[i] for i in rng.permutation(len(others))[:_MEASURED]]
        if drawn:
            groups[name] = list(codes_of(one, drawn).values())
    found = forget_songs(opened, codes_of(catalog, ids), groups, information, how, out)
    lines = [
        f"{name}: {of.songs} songs, loss {of.before:.4f} → {of.after:.4f} nats per code, rise {of.rise:+.5f} "
        f"(SD {of.rise_sd:.5f})"
        for name, of in found.groups.items()
    ]
    answer({"model": str(out)} | found.to_dict(), "\n".join([f"{out}: {found.what_it_is}", *lines]), as_json)


def _ids(songs: list[str]) -> list[str]:
    """Song ids of an option that holds ids or names of files.

    Raises:
        UsageError: no id at all.
    """
    ids: list[str] = []
    for text in songs:
        path = Path(text)
        if len(text) < 256 and path.is_file():
            ids += path.read_text(encoding="utf-8").splitlines()
        else:
            ids += text.split(",")
    found = list(dict.fromkeys(song_id.strip() for song_id in ids if song_id.strip()))
    if not found:
        raise UsageError("--songs names no song; give ids with commas between them, or a text file")
    return found
