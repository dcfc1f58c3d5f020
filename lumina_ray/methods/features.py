"""What methods work on: vectors and lengths of songs, under one checkpoint of a model or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from lumina_ray.errors import SpecificationMismatch, StoreError

# With them comes torch, which whoever searches an index does without.
if TYPE_CHECKING:
    from lumina_ray.fingerprint import Channel
    from lumina_ray.store import Store


@dataclass(frozen=True)
class Features:
    """Fingerprints of one kind in one channel: of C checkpoints, oldest first, and n songs.

    Attributes:
        vectors_CnD: float32, of unit length.
        norms_Cn: float64, the lengths that they had.
        blocks: equal pieces of a vector that are each made of one tensor (`Specification.blocks`).
        learning_rates_C: float64, of the training at each checkpoint; for TracIn.
        probabilities_Cn: float64, how probable each checkpoint finds the codes of each song: `exp(−loss)`; for TRAK.
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
    def of_stores(
        cls, stores: Sequence["Store"], channel: "Channel", learning_rates_C: np.ndarray | None = None
    ) -> Self:
        """Features of the songs of finished stores, one store for each checkpoint, oldest first.

        Raises:
            StoreError: the stores hold different songs.
            SpecificationMismatch: they hold different fingerprints.
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
        """Float64 `[n, D]`: vectors of one checkpoint at the lengths that they had."""
        return self.vectors_CnD[checkpoint] * self.norms_Cn[checkpoint, :, None]
