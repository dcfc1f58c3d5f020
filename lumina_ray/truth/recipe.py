"""The recipe of a ground-truth bank: size, number and training of its models, and the songs that each learns from."""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass

from lumina_ray.errors import UsageError
from lumina_ray.truth.corpus import CATALOGS, Recording, members

# Leaving out a composer is only telling where that leaves a hole.
_MIN_SONGS_OF_CREATOR = 4


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a bank, besides the corpus and the codec.

    Attributes:
        n_layers, dim, heads: of every model's decoder.
        epochs: how often a model sees each of its songs' windows, however many songs it has.
        batch: windows of 10 s in a step.
        checkpoints: fractions of the training after which models of whole catalogs are kept: early, and at the end.
        subsets: models that are trained on random halves of catalog A.
        repeats: of those, how many are trained once more from another start, to learn how much truth itself varies.
        free: queries that the model of catalog A makes up.
        prompt_frames: with which models continue twins, for the twin test.
    """

    n_layers: int = 8
    dim: int = 96
    heads: int = 2
    epochs: float = 6.0
    batch: int = 4
    checkpoints: tuple[float, float] = (0.4, 1.0)
    subsets: int = 64
    repeats: int = 4
    free: int = 64
    prompt_frames: int = 125
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats > self.subsets:
            raise UsageError(f"repeats ({self.repeats}) must not be more than subsets ({self.subsets})")


SMALL = Recipe()
"""Hours on two cores."""
NANO = Recipe(n_layers=16, dim=128, heads=4, epochs=15.0, subsets=200, repeats=16, free=128)
"""For nano's own size; wants a GPU."""


@dataclass(frozen=True)
class Training:
    """One model to train: its name, on which recordings (by position in the corpus), and from which seed."""

    name: str
    songs: tuple[int, ...]
    seed: int


def whole_catalogs(recipe: Recipe, recordings: tuple[Recording, ...]) -> tuple[Training, ...]:
    """The audited models of catalogs A and B, and the reference model that knows neither."""
    return tuple(
        Training(name, tuple(members(recordings, name)), _seed_of(recipe, f"catalog {name}")) for name in CATALOGS
    )


def retrainings(recipe: Recipe, recordings: tuple[Recording, ...]) -> tuple[Training, ...]:
    """Models of parts of catalog A: random halves, some of those again, and the catalog without one creator."""
    catalog = members(recordings, "A")
    halves = [
        tuple(sorted(random.Random(f"half {recipe.seed} {i}").sample(catalog, len(catalog) // 2)))
        for i in range(recipe.subsets)
    ]
    trainings = [Training(f"half-{i:03}", half, _seed_of(recipe, f"half {i}")) for i, half in enumerate(halves)]
    trainings += [Training(f"again-{i:03}", halves[i], _seed_of(recipe, f"again {i}")) for i in range(recipe.repeats)]
    creators = Counter(recordings[i].song.creator for i in catalog)
    trainings += [
        without(
            recipe, recordings, f"without-creator-{number:03}", {i for i in catalog if _creator(recordings, i) == c}
        )
        for number, c in enumerate(sorted(c for c, n in creators.items() if n >= _MIN_SONGS_OF_CREATOR))
    ]
    return tuple(trainings)


def without(recipe: Recipe, recordings: tuple[Recording, ...], name: str, removed: set[int]) -> Training:
    """Catalog A without some of its recordings."""
    kept = tuple(i for i in members(recordings, "A") if i not in removed)
    return Training(name, kept, _seed_of(recipe, name))


def _creator(recordings: tuple[Recording, ...], position: int) -> str:
    return recordings[position].song.creator


def _seed_of(recipe: Recipe, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{recipe.seed} {name}".encode()).digest()[:4], "little") >> 1
