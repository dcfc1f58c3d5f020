"""Opens an embedder: finds its weights, and keeps what is open."""

import functools
import os
from pathlib import Path
from pkgutil import resolve_name

import torch

from lumina_ray.embedding.interface import Embedder
from lumina_ray.embedding.table import EMBEDDERS
from lumina_ray.errors import ModelError
from lumina_ray.files import open_file
from lumina_ray.model.files import expanded, is_folder

FOLDER_VARIABLE = "LUMINA_EMBEDDERS"
"""Environment variable that names the folder in which the weights' folders are: `clap`, `clews`, `mert`, `musicnn`."""
_BUNDLED_FOLDER = Path(__file__).parent / "bundled"


def open_embedder(name: str, device: torch.device) -> Embedder:
    """Load an embedder, once in a process. Nothing is downloaded.

    Args:
        name: one of `EMBEDDERS`.
        device: where it is to run.

    Raises:
        ModelError: its weights are not at hand, damaged or of another model; the message says what is needed, and
            under which licence.
    """
    return _opened(name, find_embedder(name), str(device))


def find_embedder(name: str) -> Path:
    """The folder of an embedder's weights: the one that `LUMINA_EMBEDDERS` has, else the bundled one.

    Raises:
        ModelError: there is none.
    """
    row, given = EMBEDDERS[name], os.environ.get(FOLDER_VARIABLE, "").strip()
    folder = expanded(given) / name
    if given and is_folder(folder):
        return folder.resolve()
    if row.bundled:
        return _BUNDLED_FOLDER / name
    looked = f"{folder.absolute()} is no folder" if given else f"{FOLDER_VARIABLE} is not set"
    raise ModelError(
        f"embedding:{name} needs weights that you have fetched, and {looked}. Set {FOLDER_VARIABLE}, on every machine "
        f"that fingerprints and before Ray starts there, to a folder in which {name}/ holds {row.files}. Nothing is "
        f"downloaded here. Mind their licence: {row.licence}."
    )


@functools.lru_cache(maxsize=8)
def _opened(name: str, folder: Path, device: str) -> Embedder:
    row = EMBEDDERS[name]
    return Embedder.of(row, resolve_name(row.loader)(folder, torch.device(device)), torch.device(device))


def unreadable(folder: Path, name: str, why: object) -> ModelError:
    """The error for a folder whose files are none of an embedder's weights."""
    row = EMBEDDERS[name]
    return ModelError(f"{folder}: cannot be loaded as {name} ({why}); the folder must hold {row.files}")


def check_keys(folder: Path, name: str, missing: object, unknown: object) -> None:
    """Check that weights have all tensors that a network needs, and no others.

    Args:
        missing, unknown: names of tensors.

    Raises:
        ModelError: they do not.
    """
    for what, names in (("lacks", missing), ("has unknown", unknown)):
        if found := sorted(names):  # type: ignore[call-overload]
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise unreadable(folder, name, f"it {what} tensors: {', '.join(found[:3])}{more}")


def check_file(path: Path, name: str) -> Path:
    """Check that a file of an embedder is there.

    Raises:
        ModelError: it is not.
    """
    try:
        open_file(path).close()
    except OSError as error:
        raise unreadable(path.parent, name, f"{path.name}: {error.strerror or error}") from error
    return path
