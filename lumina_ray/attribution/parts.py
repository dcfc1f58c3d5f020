"""A query as the sum of its stretches: how far it resembles itself, and what it would be without one of them.

A stretch's gradient is that of the piece plus something of its own, and the shorter a query is, the more of its own is
left in it. What its stretches have in common is what a longer piece of this kind would keep.

n stretches, D dimensions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class QueryParts:
    """A query's vector, taken apart.

    Attributes:
        parts: float64 `[n, D]`, what each stretch adds.
        rest: float64 `[D]`, what is in none: nothing, for fingerprints that are linear in the gradient.
        weights: float64 `[n]`, each stretch's fraction of the query; they add up to 1.
    """

    parts: np.ndarray
    rest: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, query_D: np.ndarray, stretches_nD: np.ndarray, weights_n: np.ndarray) -> "QueryParts":
        """Take a query apart.

        Args:
            query_D: its vector.
            stretches_nD: unit vectors of its stretches, of which the query is taken for a sum of multiples and a rest.
        """
        query_D, stretches_nD = query_D.astype(np.float64), stretches_nD.astype(np.float64)
        # By the normal equations, as D is large and n is not.
        lengths_n, *_ = np.linalg.lstsq(stretches_nD @ stretches_nD.T, stretches_nD @ query_D, rcond=None)
        parts_nD = lengths_n[:, None] * stretches_nD
        return cls(parts_nD, query_D - parts_nD.sum(axis=0), np.asarray(weights_n, np.float64))

    def __len__(self) -> int:
        return len(self.parts)

    def without(self, stretches: np.ndarray) -> "QueryParts":
        """Leave some stretches out, given by their places; the rest stays as it is."""
        kept = np.delete(np.arange(len(self.parts)), stretches)
        return QueryParts(self.parts[kept], self.rest, self.weights[kept] / self.weights[kept].sum())

    @cached_property
    def vector(self) -> np.ndarray:
        """The query's vector, float64 `[D]`, of unit length unless it is zero."""
        sum_D = self.rest + self.parts.sum(axis=0)
        length = np.linalg.norm(sum_D)
        return sum_D / length if length > 0 else sum_D

    @cached_property
    def self_likeness(self) -> float | None:
        """Part of the vector's squared length that all stretches have in common, estimated without bias.

        What is of a stretch's own adds to its inner product with itself, and not to those with others. None for one
        stretch, which says nothing of it; below 0 where stretches have less than nothing in common.
        """
        if len(self.parts) < 2:
            return None
        rest, whole_D = float(self.rest @ self.rest), self.parts.sum(axis=0)
        whole, own = float(whole_D @ whole_D), float((self.parts**2).sum())
        if whole + rest == 0:
            return None
        return (rest + (whole - own) / (1 - float((self.weights**2).sum()))) / (rest + whole)
