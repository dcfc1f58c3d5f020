"""Loads an embedder from a folder in the transformers format, and checks that every tensor was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lumina_ray.embedding.open import check_keys, unreadable
from lumina_ray.errors import ModelError
from lumina_ray.model.quiet import quiet_transformers

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def weights_file(folder: Path, name: str) -> Path:
    """The file of a folder's weights.

    Raises:
        ModelError: there is none.
    """
    for file in _WEIGHTS:
        if (folder / file).is_file():
            return folder / file
    raise unreadable(folder, name, f"it has no {' or '.join(_WEIGHTS)}")


def from_pretrained(architecture: Any, folder: Path, name: str, of: Sequence[str] = ("",), **options: Any) -> Any:
    """Load a model in evaluation mode and float32, with all of its tensors and no others.

    Args:
        architecture: a model class of transformers.
        name: of the embedder, for errors.
        of: how the names of tensors begin that matter.
        options: for `from_pretrained`.

    Raises:
        ModelError: files are missing or damaged, or tensors are missing, of other shapes or unknown.
    """
    try:
        with quiet_transformers():
            model, found = architecture.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
            )
    # Of damaged files, transformers, safetensors and torch have a dozen errors.
    except ModelError:
        raise
    except Exception as error:
        raise unreadable(folder, name, error) from error
    for key, shape, wanted in found["mismatched_keys"]:
        if key.startswith(tuple(of)):
            raise unreadable(folder, name, f"{key} is {tuple(shape)}, not {tuple(wanted)}")
    missing, unknown = (
        {key for key in found[what] if key.startswith(tuple(of))} for what in ("missing_keys", "unexpected_keys")
    )
    check_keys(folder, name, missing, unknown)
    return model.eval()
