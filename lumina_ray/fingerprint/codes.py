"""A song's EnCodec codes: the canonical input of every fingerprint, stored once and reused by all of them."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from lumina_ray.audio import split_chunks
from lumina_ray.errors import StoreError

if TYPE_CHECKING:
    from lumina_ray.model import MusicModel


@dataclass(frozen=True)
class SongCodes:
    """Codes of the chunks that are fingerprinted, each of its true length.

    Attributes:
        chunks: uint16 arrays `[K, T_c]`.
        starts_s: where each chunk starts in the song.
    """

    chunks: tuple[np.ndarray, ...]
    starts_s: tuple[float, ...]

    @property
    def frames(self) -> list[int]:
        return [chunk.shape[1] for chunk in self.chunks]

    @property
    def sha256(self) -> str:
        """Identity of the codes, and therefore of every vector made from them under one specification."""
        digest = hashlib.sha256(np.array(self.frames, "<u4").tobytes())
        digest.update(self.to_bytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """Little-endian uint16 `[K, ΣT_c]`, row by row."""
        return np.concatenate(self.chunks, axis=1).astype("<u2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, n_codebooks: int, frames: list[int], starts_s: list[float]) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            StoreError: the lengths contradict each other.
        """
        if len(data) != 2 * n_codebooks * sum(frames) or len(frames) != len(starts_s) or not frames:
            raise StoreError(
                f"damaged codes: {len(data)} bytes for {n_codebooks} codebooks and chunks of {frames} frames"
            )
        codes_KT = np.frombuffer(data, "<u2").reshape(n_codebooks, sum(frames)).astype(np.uint16)
        return cls(tuple(np.split(codes_KT, np.cumsum(frames)[:-1], axis=1)), tuple(starts_s))


def encode_song(model: "MusicModel", samples: np.ndarray, name: str) -> SongCodes:
    """Cut a song into chunks and encode each by itself, so that its codes depend on no other chunk.

    Raises:
        AudioError: too short, or silent throughout.
    """
    chunks = split_chunks(samples, name)
    return SongCodes(
        tuple(model.encode(chunk.samples).cpu().numpy().astype(np.uint16) for chunk in chunks),
        tuple(chunk.start_s for chunk in chunks),
    )
