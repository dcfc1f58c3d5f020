"""The models of a bank for an operator's own model: which songs of the catalog each of them learns from."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from lumina_ray.calibration import MIN_CONTROLS
from lumina_ray.errors import UsageError
from lumina_ray.truth.bank import BASE
from lumina_ray.truth.corpus import Audited
from lumina_ray.truth.effects import MIN_MODELS, MIN_QUERIES
from lumina_ray.truth.recipe import Training

WHOLE: Audited = "A"
"""Name of the model of the whole catalog."""
# Half of the queries are for choosing and half for reporting, and a song may be too short for an excerpt.
MIN_SONGS = 2 * MIN_QUERIES
_REMOVED_FRACTION = 0.1


@dataclass(frozen=True)
class OwnRecipe:
    """Everything that decides the numbers of a bank, besides the base model and the music.

    Attributes:
        epochs: how often a model sees each of its songs' windows.
        batch: windows of 10 s in a step.
        halves: models without a random half of the catalog.
        removals: models without a random tenth.
        singles: models without one song.
        repeats: of each of these: how many are trained once more from another seed, to learn how much truth varies.
        pieces: of each kind that the model of the whole catalog makes up.
        prompt_frames: that it goes on from.
        controls: songs that are no part of the catalog, at most.
    """

    epochs: float = 4.0
    batch: int = 4
    halves: int = 64
    removals: int = 32
    singles: int = 16
    repeats: int = 4
    pieces: int = 48
    prompt_frames: int = 150
    controls: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.halves, self.removals) < MIN_MODELS:
            raise UsageError(
                f"{self.halves} models of halves and {self.removals} without a tenth are too few for effects; "
                f"{MIN_MODELS} of each are needed"
            )
        if not 2 <= self.repeats <= self.halves:
            raise UsageError(
                f"repeats ({self.repeats}) must be at least 2, which tell how much truth varies, and not more than "
                f"halves ({self.halves})"
            )
        if self.controls < MIN_CONTROLS or min(self.singles, self.pieces) < 0:
            raise UsageError(
                f"at least {MIN_CONTROLS} controls are needed, and numbers of singles and pieces must not be below 0"
            )


def own_trainings(recipe: OwnRecipe, n_songs: int) -> tuple[Training, ...]:
    """The base model, the model of the whole catalog, and those of parts of it; songs are numbered from 0.

    All see the same songs at the same steps: what is removed keeps its place, at weight 0.

    Raises:
        UsageError: fewer songs than any effects can be fitted on.
    """
    if n_songs < MIN_SONGS:
        raise UsageError(f"{n_songs} songs are too few for a bank: at least {MIN_SONGS} are needed")
    songs = range(n_songs)
    tenth = max(1, round(_REMOVED_FRACTION * n_songs))
    order = random.Random(f"singles {recipe.seed}").sample(songs, n_songs)
    groups = {
        "half": [_drawn(recipe, "half", i, songs, n_songs // 2) for i in range(recipe.halves)],
        "tenth": [_drawn(recipe, "tenth", i, songs, tenth) for i in range(recipe.removals)],
        "single": [{i} for i in order[: recipe.singles]],
    }
    again = {f"again-{name}": sets[: recipe.repeats] for name, sets in groups.items()}
    first, second = 2 * recipe.seed, 2 * recipe.seed + 1
    return (
        Training(BASE, (), first, tuple(songs)),
        Training(WHOLE, tuple(songs), first),
        *(
            Training(
                f"{name}-{number:03}",
                tuple(i for i in songs if i not in removed),
                second if name in again else first,
                tuple(sorted(removed)),
            )
            for name, sets in (groups | again).items()
            for number, removed in enumerate(sets)
        ),
    )


def _drawn(recipe: OwnRecipe, what: str, number: int, songs: Sequence[int], n: int) -> set[int]:
    return set(random.Random(f"{what} {recipe.seed} {number}").sample(songs, n))
