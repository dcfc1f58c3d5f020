"""Retrained models, and what they think of the same queries: the part that every ground-truth bank has."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import Training


class Song(Protocol):
    """A song, of which a measure needs only what it is a recording of."""

    @property
    def work(self) -> str: ...


class Retrainings:
    """The base of banks.

    Attributes:
        recordings: the songs that trainings name by position.
        queries: those that all models were asked about.
        trainings: of the models that the losses are of.
        losses_RQK: float32, in nats per code: of every query and codebook under every model.
    """

    recordings: Sequence[Song]
    queries: list[Query]
    trainings: list[Training]
    losses_RQK: np.ndarray

    def of_kind(self, prefix: str) -> list[int]:
        """Give the positions of the trainings whose name begins with `prefix`."""
        return [i for i, training in enumerate(self.trainings) if training.name.startswith(prefix)]

    def columns(self, queries: Sequence[Query]) -> list[int]:
        """Give the positions among `queries` of some of them, which are the very objects: columns of the losses."""
        position = {id(query): i for i, query in enumerate(self.queries)}
        return [position[id(query)] for query in queries]

    def masks(self, rows: list[int], songs: list[int]) -> np.ndarray:
        """Say which of some songs some models were trained on, bool `[R, N]`."""
        return np.array([[song in self.trainings[row].songs for song in songs] for row in rows])
