"""Features, the input of every method: vectors and lengths of songs, under one or several checkpoints of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from lumina_ray.errors import SpecificationMismatch, StoreError
from lumina_ray.vocabulary import Channel

# Stores load torch, and a process that only searches an index does not need it.
if TYPE_CHECKING:
    from lumina_ray.store import Store


@dataclass(frozen=True)
class Features:
    """Fingerprints of n songs, of one kind and in one channel, under C checkpoints (oldest first).

    Attributes:
        vectors_CnD: float32 vectors of unit length.
        norms_Cn: float64, the lengths that the vectors had before they were scaled to 1.
        blocks: number of equal pieces of a vector that are each made of one tensor (`Specification.blocks`).
        learning_rates_C: float64, the training's learning rate at each checkpoint; TracIn needs it.
        probabilities_Cn: float64, the probability `exp(−loss)` of each song's codes under each checkpoint, for TRAK.

    Raises:
        ValueError: the shapes do not fit together.
    """

    vectors_CnD: np.ndarray
    norms_Cn: np.ndarray
    blocks: int = 1
    learning_rates_C: np.ndarray | None = None
    probabilities_Cn: np.ndarray | None = None

    def __post_init__(self) -> None:
        C, n, D = self.vectors_CnD.shape
        if self.norms_Cn.shape != (C, n):
            raise ValueError(f"vectors {(C, n, D)} need norms {(C, n)}, got {self.norms_Cn.shape}")
        if D % self.blocks:
            raise ValueError(f"{self.blocks} blocks do not divide {D} numbers")
        if self.learning_rates_C is not None and self.learning_rates_C.shape != (C,):
            raise ValueError(f"{C} checkpoints need as many learning rates, got {self.learning_rates_C.shape}")
        if self.probabilities_Cn is not None and self.probabilities_Cn.shape != (C, n):
            raise ValueError(f"vectors {(C, n, D)} need probabilities {(C, n)}, got {self.probabilities_Cn.shape}")

    @classmethod
    def of_stores(cls, stores: Sequence["Store"], channel: Channel, learning_rates_C: np.ndarray | None = None) -> Self:
        """Read the features of one channel from finished stores.

        Args:
            stores: one store for each checkpoint, oldest first.
            learning_rates_C: float64, the training's learning rate at each checkpoint.

        Raises:
            StoreError: the stores hold different songs.
            SpecificationMismatch: the stores differ in more than the model's weights.
        """
        first = stores[0]
        for store in stores[1:]:
            if store.song_ids != first.song_ids:
                raise StoreError(f"{store.path} and {first.path} hold different songs: fingerprint one manifest twice")
            ours, theirs = (s.specification.to_dict() | {"weights_sha256": ""} for s in (store, first))
            if ours != theirs:
                raise SpecificationMismatch(
                    f"{store.path} and {first.path} differ in more than the model's weights; "
                    "fingerprint both with the same options"
                )
        return cls(
            np.stack([store.vectors(channel) for store in stores]),
            np.stack([store.norms(channel) for store in stores]),
            first.specification.blocks(channel),
            learning_rates_C,
        )

    def raw(self, checkpoint: int) -> np.ndarray:
        """Vectors of one checkpoint at their original lengths, float64 `[n, D]`."""
        return self.vectors_CnD[checkpoint] * self.norms_Cn[checkpoint, :, None]
