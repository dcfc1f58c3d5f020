"""Pieces of music as the named arrays of a bank's file."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lumina_ray.truth.queries import Piece


def packed(name: str, pieces: Sequence[Piece], dtype: type[np.generic]) -> dict[str, np.ndarray]:
    """Give the arrays of some pieces.

    Args:
        name: of the pieces, which begins the arrays' names.
        dtype: that codes or latents are kept in.
    """
    out = {}
    for i, piece in enumerate(pieces):
        out[f"{name}/{i}"] = piece.codes_KT.numpy().astype(dtype)
        out[f"{name}-heard/{i}"] = piece.heard_T.numpy()
    return out


def unpacked(name: str, arrays: Mapping[str, np.ndarray], dtype: type[np.generic]) -> list[Piece]:
    """Give the pieces that `packed` made arrays of, with codes or latents in a dtype."""
    return [
        Piece(torch.from_numpy(arrays[f"{name}/{i}"].astype(dtype)), torch.from_numpy(arrays[f"{name}-heard/{i}"]))
        for i in range(sum(one.startswith(f"{name}/") for one in arrays))
    ]
