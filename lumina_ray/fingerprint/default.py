"""The kind of fingerprint that a catalog is given where nobody names one.

This module does not import torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from lumina_ray.errors import ModelError
from lumina_ray.fingerprint.kinds import DEFAULT_KIND
from lumina_ray.model.companion import COMPANION_FILE
from lumina_ray.model.files import AUDIOCRAFT_PREFIX, find_model, representation_in
from lumina_ray.vocabulary import Kind, RepresentationName

if TYPE_CHECKING:
    from lumina_ray.model import AttributableModel


def default_kind(model: str) -> Kind:
    """Choose by what a model comes with: `companion`, where its folder has what that takes.

    Otherwise it is the default of what the model writes music down in: `influence` for codes, `gradient` for latents.

    Args:
        model: as `open_model` takes it; one that is not at hand has no folder here.
    """
    try:
        folder = find_model(model.removeprefix(AUDIOCRAFT_PREFIX))
    except ModelError:
        return DEFAULT_KIND["codes"]
    return _kind_in(folder, representation_in(folder))


def default_kind_of(model: "AttributableModel") -> Kind:
    """Choose likewise for a model that is open."""
    if getattr(model, "companions", None) is not None:
        return "companion"
    representation = model.representation.name
    return _kind_in(model.folder, representation) if model.folder else DEFAULT_KIND[representation]


def _kind_in(folder: Path, representation: RepresentationName) -> Kind:
    return "companion" if (folder / COMPANION_FILE).is_file() else DEFAULT_KIND[representation]
