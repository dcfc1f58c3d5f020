"""Musical features of songs, and how alike two songs are by one of them.

A feature is a vector, or a sequence of chord roots. Each belongs to a musical aspect, such as rhythm or timbre.
Likeness lies in (0, 1], or in [0, 1] for sequences.

Source: Aria (arXiv:2605.16181, §3.3 and A.3); the map from distance to likeness is lost there.

Shape legend: N = songs, D = dimensions of a feature, G = groups, K = songs of a group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from lumina_ray.errors import UsageError

Likeness = Literal["reciprocal", "exponential"]
"""Map from a distance d to likeness: 1 / (1 + d), or e^(−d / median of all distances)."""
_PAIRS = 20_000
_NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class VectorFeature:
    """A vector of each song.

    Attributes:
        aspect: musical aspect, such as "timbre".
        name: such as "mfcc".
        values_ND: float64 `[N, D]`, finite; every dimension varies.
    """

    aspect: str
    name: str
    values_ND: np.ndarray

    def __post_init__(self) -> None:
        if not np.isfinite(self.values_ND).all():
            song, dimension = np.argwhere(~np.isfinite(self.values_ND))[0]
            raise UsageError(
                f"feature {self.aspect}.{self.name} is {self.values_ND[song, dimension]} for song {song}, dimension "
                f"{dimension}; compute it again, or leave the song or the feature out"
            )
        if constant := np.flatnonzero(np.ptp(self.values_ND, axis=0) == 0).tolist():
            raise UsageError(
                f"feature {self.aspect}.{self.name} has the same value for all songs in dimension {constant[0]}: it "
                "tells nothing; leave that column out"
            )


@dataclass(frozen=True)
class RootsFeature:
    """The chord roots of each song, in their order, as pitch classes 0 to 11 (C is 0).

    Songs are compared by the motions of the roots, in semitones upwards mod 12, so that transposition changes nothing.
    """

    aspect: str
    name: str
    roots: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for song, roots in enumerate(self.roots):
            if wrong := [root for root in roots if not 0 <= root <= 11]:
                raise UsageError(
                    f"feature {self.aspect}.{self.name} has the root {wrong[0]} for song {song}; pitch classes are 0 "
                    "to 11"
                )
        if len(set(self.motions)) == 1:
            raise UsageError(f"feature {self.aspect}.{self.name} is the same for all songs: it tells nothing")

    @property
    def motions(self) -> list[tuple[int, ...]]:
        """Root motions of each song."""
        return [tuple((b - a) % 12 for a, b in pairwise(one)) for one in self.roots]


Feature = VectorFeature | RootsFeature
GroupLikeness = Callable[[np.ndarray], np.ndarray]
"""From groups of songs, int `[G, K]` without a song twice, to the mean likeness of their pairs, float64 `[G]`."""


def group_likeness(feature: Feature, likeness: Likeness = "reciprocal") -> GroupLikeness:
    """Prepare a feature so that groups of songs can be measured.

    Vectors are compared by Euclidean distance after each dimension is divided by its standard deviation over all songs.

    Args:
        likeness: map from distance to likeness, for vectors. Sequences are compared by the length of their longest
            common subsequence, divided by the longer one's.
    """
    if isinstance(feature, RootsFeature):
        return _of_sequences(feature.motions)
    return _of_vectors(feature.values_ND / feature.values_ND.std(axis=0), likeness)


def _of_vectors(scaled_ND: np.ndarray, likeness: Likeness) -> GroupLikeness:
    # Distances do not change with the origin, and lose fewer digits near it.
    scaled_ND = scaled_ND - scaled_ND.mean(axis=0)
    median = _median_distance(scaled_ND) if likeness == "exponential" else 0.0

    def measure(groups_GK: np.ndarray) -> np.ndarray:
        K, D = groups_GK.shape[1], scaled_ND.shape[1]
        at_once = max(1, _NUMBERS_AT_ONCE // (K * (K + D)))
        return np.concatenate([of(groups_GK[i : i + at_once]) for i in range(0, len(groups_GK), at_once)])

    def of(groups_GK: np.ndarray) -> np.ndarray:
        vectors_GKD = scaled_ND[groups_GK]
        squares_GK = np.einsum("gkd,gkd->gk", vectors_GKD, vectors_GKD)
        products_GKK = vectors_GKD @ vectors_GKD.transpose(0, 2, 1)
        squares_GKK = squares_GK[:, :, None] + squares_GK[:, None] - 2 * products_GKK
        first, second = np.triu_indices(groups_GK.shape[1], 1)
        distance_GP = np.sqrt(squares_GKK[:, first, second].clip(0))
        alike_GP = np.exp(-distance_GP / median) if likeness == "exponential" else 1 / (1 + distance_GP)
        return alike_GP.mean(axis=1)

    return measure


def _median_distance(scaled_ND: np.ndarray) -> float:
    """Median distance of two songs: of all pairs, or of some of them, drawn once."""
    n = len(scaled_ND)
    first, second = np.triu_indices(n, 1) if n * (n - 1) // 2 <= _PAIRS else _random_pairs(n)
    distance = np.linalg.norm(scaled_ND[first] - scaled_ND[second], axis=1)
    # Where most songs are equal, the median distance is 0, and the mean is not.
    return float(np.median(distance)) or float(distance.mean())


def _random_pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first, step = rng.integers(n, size=_PAIRS), rng.integers(1, n, size=_PAIRS)
    return first, (first + step) % n


def _of_sequences(sequences: Sequence[tuple[int, ...]]) -> GroupLikeness:
    # Many groups share pairs, and a comparison is slow.
    known: dict[tuple[int, int], float] = {}

    def alike(i: int, j: int) -> float:
        pair = (i, j) if i < j else (j, i)
        if pair not in known:
            known[pair] = sequence_likeness(sequences[i], sequences[j])
        return known[pair]

    def measure(groups_GK: np.ndarray) -> np.ndarray:
        first, second = np.triu_indices(groups_GK.shape[1], 1)
        return np.array(
            [
                np.mean([alike(group[i], group[j]) for i, j in zip(first, second, strict=True)])
                for group in groups_GK.tolist()
            ]
        )

    return measure


def sequence_likeness(one: Sequence[int], other: Sequence[int]) -> float:
    """Length of the longest common subsequence, divided by the longer sequence's; 1 where both are empty."""
    longer = max(len(one), len(other))
    return _common_subsequence(one, other) / longer if longer else 1.0


def _common_subsequence(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common subsequence, a row of the table at a time as the bits of one number (Hyyrö 2004)."""
    places: dict[int, int] = {}
    for place, symbol in enumerate(one):
        places[symbol] = places.get(symbol, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every
    for symbol in other:
        matches = row & places.get(symbol, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(one) - row.bit_count()
