"""A song's EnCodec codes: the canonical input of every fingerprint, stored once and reused by all of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lumina_ray.audio import Chunk
from lumina_ray.errors import ModelError
from lumina_ray.vocabulary import SongCodes

if TYPE_CHECKING:
    # The model's types need torch, which a job's tasks do not load.
    from lumina_ray.model import MusicModel

_FULL_SCALE = np.float32(1 / 32_768)


def encode_song(model: "MusicModel", chunks: Sequence[Chunk]) -> SongCodes:
    """Encode each chunk of a song by itself, so that its codes depend on no other chunk.

    Raises:
        ModelError: the model's codec does not have 50 frames a second.
    """
    codes = [model.encode(chunk.samples * _FULL_SCALE).cpu().numpy().astype(np.uint16) for chunk in chunks]
    for chunk, codes_KT in zip(chunks, codes, strict=True):
        if codes_KT.shape[1] != len(chunk.heard):
            raise ModelError(
                f"model {model.name!r}: its codec makes {codes_KT.shape[1]} frames of {chunk.duration_s:g} s, "
                f"not {len(chunk.heard)}; a codec of 50 frames a second is needed"
            )
    return SongCodes(tuple(codes), tuple(chunk.start_s for chunk in chunks), tuple(chunk.heard for chunk in chunks))
