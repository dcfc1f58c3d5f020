"""The recipe of a symbolic bank: its pieces, the size and training of its models, and which pieces each learns from."""

import random
from dataclasses import dataclass

from lumina_ray.errors import UsageError


@dataclass(frozen=True)
class SymbolicRecipe:
    """Everything that decides the numbers of a symbolic bank, besides the packages' scores.

    Attributes:
        pieces: how many there are to learn from; fewer where fewer scores are long enough.
        window: events that a model sees at once.
        windows: of each piece that models learn from; the window after them is held out.
        n_layers, dim, heads: size of every model.
        epochs: how often a model sees each of its windows.
        batch: windows of a step, those that a model does not learn from included.
        rate: peak of the learning rate.
        checkpoints: fractions of its training after which the model of all pieces is kept; the last one is 1.
        halves: models of random halves of the pieces, by whose losses scores are judged.
        ensemble: further models of random halves, each from random weights of its own, whose gradients TRAK takes.
        excerpts, generated: queries of each kind, at most one of each kind a piece.
        prompt: events that a generated query begins with.
    """

    pieces: int
    window: int
    windows: int
    n_layers: int
    dim: int
    heads: int
    epochs: int
    batch: int
    rate: float
    checkpoints: tuple[float, ...]
    halves: int
    ensemble: int
    excerpts: int
    generated: int
    prompt: int
    seed: int = 0

    def __post_init__(self) -> None:
        if max(self.excerpts, self.generated) > self.pieces:
            raise UsageError(f"{self.pieces} pieces have at most as many excerpts and continuations each")


SMALL = SymbolicRecipe(
    pieces=120, window=128, windows=3, n_layers=1, dim=48, heads=4, epochs=10, batch=12, rate=3e-3,
    checkpoints=(0.25, 0.5, 0.75, 1.0), halves=32, ensemble=5, excerpts=60, generated=60, prompt=32,
)  # fmt: skip
"""Minutes of one core."""
TINY = SymbolicRecipe(
    pieces=12, window=32, windows=2, n_layers=1, dim=16, heads=2, epochs=1, batch=8, rate=3e-3,
    checkpoints=(0.5, 1.0), halves=4, ensemble=2, excerpts=6, generated=6, prompt=8,
)  # fmt: skip
"""To try the commands with: seconds, and figures that mean nothing."""
SIZES = {"tiny": TINY, "small": SMALL}

WHOLE = "whole"


@dataclass(frozen=True)
class SymbolicTraining:
    """One model to train.

    Attributes:
        name: of the model.
        pieces: numbers of the pieces that it learns from.
        order: seed of the order of windows, which is one of all pieces: whichever a model learns from, it sees them at
            the same steps.
        weights: seed of the random weights that it starts from.
    """

    name: str
    pieces: tuple[int, ...]
    order: int
    weights: int


def trainings(recipe: SymbolicRecipe, n_pieces: int) -> list[SymbolicTraining]:
    """The model of all pieces, those that are judged by and the ensemble; the first two start from the same weights."""

    def half(name: str) -> tuple[int, ...]:
        return tuple(sorted(random.Random(f"{name} {recipe.seed}").sample(range(n_pieces), n_pieces // 2)))

    judges = [f"half-{number:03}" for number in range(recipe.halves)]
    members = [f"ensemble-{number:03}" for number in range(recipe.ensemble)]
    return [
        SymbolicTraining(WHOLE, tuple(range(n_pieces)), recipe.seed, recipe.seed),
        *(SymbolicTraining(name, half(name), recipe.seed, recipe.seed) for name in judges),
        *(
            SymbolicTraining(name, half(name), recipe.seed + number, recipe.seed + number)
            for number, name in enumerate(members, start=2)
        ),
    ]


def untrained_seed(recipe: SymbolicRecipe) -> int:
    """Seed of random weights that no model starts from."""
    return recipe.seed + 1
