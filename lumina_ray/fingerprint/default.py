"""The kind of fingerprint that a catalog is given where nobody names one.

This module does not import torch.
"""

from pathlib import Path

from lumina_ray.errors import ModelError
from lumina_ray.model.companion import COMPANION_FILE
from lumina_ray.model.files import find_model
from lumina_ray.vocabulary import Kind


def default_kind(model: str) -> Kind:
    """Choose by what a model comes with: `companion`, where its folder has what that takes; else `influence`.

    Args:
        model: as `open_model` takes it. One that is not at hand, or that an adapter opens, has no folder here.
    """
    try:
        folder = find_model(model)
    except ModelError:
        return "influence"
    return "companion" if (Path(folder) / COMPANION_FILE).is_file() else "influence"
