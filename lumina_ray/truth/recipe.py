"""The recipe of a ground-truth bank: size, number and training of its models, and the songs that each learns from."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from lumina_ray.errors import UsageError
from lumina_ray.truth.corpus import CATALOGS, Recording, members

# Leaving out a composer, or a class of captions, is only telling where that leaves a hole.
_MIN_SONGS_OF_GROUP = 4
# A class that most songs belong to is no class.
_MAX_FRACTION_OF_CLASS = 0.5
_REMOVED_FRACTION = 0.1


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a bank, besides the corpus and the codec.

    Attributes:
        n_layers, dim, heads: of every model's decoder.
        base_epochs: passes over other music of the model that all others start from.
        epochs: how often a model sees each of its songs' windows, however many songs it has.
        batch: windows of 10 s in a step.
        checkpoints: fractions of the training after which models of whole catalogs are kept: early, and at the end.
        subsets: models that are trained on random halves of catalog A.
        removals: models that are trained without a random tenth of catalog A.
        repeats: of halves, of removals and of models without one song each: how many are trained once more from another
            seed, to learn how much truth itself varies.
        references: models that are trained on random parts of music that is in no catalog.
        captions: captions that the model of catalog A makes music under.
        free: queries that the model of catalog A makes up under the fixed text.
        prompt_frames: with which models continue recordings.
    """

    n_layers: int
    dim: int
    heads: int
    base_epochs: float
    epochs: float
    batch: int
    checkpoints: tuple[float, float]
    subsets: int
    removals: int
    repeats: int
    references: int
    captions: int
    free: int
    prompt_frames: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats > self.subsets:
            raise UsageError(f"repeats ({self.repeats}) must not be more than subsets ({self.subsets})")


SMALL = Recipe(
    n_layers=8, dim=96, heads=2, base_epochs=16.0, epochs=4.0, batch=4, checkpoints=(0.4, 1.0), subsets=64, removals=32,
    repeats=4, references=4, captions=48, free=16, prompt_frames=150,
)  # fmt: skip
"""Hours on two cores."""
NANO = Recipe(
    n_layers=16, dim=128, heads=4, base_epochs=16.0, epochs=8.0, batch=4, checkpoints=(0.4, 1.0), subsets=200,
    removals=64, repeats=16, references=4, captions=48, free=32, prompt_frames=150,
)  # fmt: skip
"""For nano's own size; wants a GPU."""


@dataclass(frozen=True)
class Training:
    """One model to train.

    Attributes:
        name: of the model.
        songs: positions in the corpus of the recordings that it learns from.
        seed: of the order of its songs, and of their texts.
        removed: positions of recordings that take part in the order of songs, at weight 0: so a model without some
            songs sees all others at the same steps as the model with them.
    """

    name: str
    songs: tuple[int, ...]
    seed: int
    removed: tuple[int, ...] = ()


def whole_catalogs(recipe: Recipe, recordings: tuple[Recording, ...]) -> tuple[Training, ...]:
    """The audited models of catalogs A and B, A's from a second seed, and reference models that know neither.

    A reference model learns from as many songs as A has, drawn from the music that is in no catalog.
    """
    catalogs = {name: tuple(members(recordings, name)) for name in CATALOGS}
    size = min(len(catalogs["A"]), len(catalogs["reference"]))
    references = [
        tuple(sorted(random.Random(f"reference {recipe.seed} {i}").sample(catalogs["reference"], size)))
        for i in range(recipe.references)
    ]
    return (
        Training("A", catalogs["A"], _seed_of(recipe, "A")),
        Training("A-second", catalogs["A"], _seed_of(recipe, "second")),
        Training("B", catalogs["B"], _seed_of(recipe, "B")),
        *(
            Training("reference" if i == 0 else f"reference-{i}", songs, _seed_of(recipe, f"reference {i}"))
            for i, songs in enumerate(references)
        ),
    )


def retrainings(recipe: Recipe, recordings: tuple[Recording, ...], captions: Sequence[str]) -> tuple[Training, ...]:
    """Models of parts of catalog A, in the order of what they are worth to a bank that is not whole yet.

    Random halves, without random tenths, without each creator, without each class of captions, without each single
    song; and some of them again from the seed of "A-second", which differs from "A" by its seed alone.

    Args:
        captions: of every recording of the corpus.
    """
    catalog = members(recordings, "A")
    halves = [_drawn(recipe, "half", i, catalog, len(catalog) - len(catalog) // 2) for i in range(recipe.subsets)]
    tenths = [
        _drawn(recipe, "tenth", i, catalog, round(_REMOVED_FRACTION * len(catalog))) for i in range(recipe.removals)
    ]
    creators = [
        {i for i in catalog if recordings[i].song.creator == creator}
        for creator in sorted({recordings[i].song.creator for i in catalog})
    ]
    classes = list(caption_classes({i: captions[i] for i in catalog}).values())
    singles = [{i} for i in catalog]
    groups = {
        "half": halves,
        "tenth": tenths,
        "without-creator": [songs for songs in creators if len(songs) >= _MIN_SONGS_OF_GROUP],
        "without-class": classes,
        "single": singles,
    }
    again = {f"again-{name}": groups[name][: recipe.repeats] for name in ("half", "tenth", "single")}
    return tuple(
        without(recipe, recordings, f"{name}-{number:03}", removed, "second" if name in again else "A")
        for name, sets in (groups | again).items()
        for number, removed in enumerate(sets)
    )


def caption_classes(captions: dict[int, str]) -> dict[str, set[int]]:
    """Songs by what their captions share: a style and form, or an instrument.

    Args:
        captions: by position in the corpus, as `lumina_ray.demo.captions` writes them.
    """
    words: dict[str, set[int]] = {}
    for i, caption in captions.items():
        what, *instruments = [part.strip() for part in caption.split(",")]
        # The first word is a tempo.
        for word in {what.partition(" ")[2], *instruments}:
            words.setdefault(word, set()).add(i)
    most = _MAX_FRACTION_OF_CLASS * len(captions)
    return {word: songs for word, songs in sorted(words.items()) if _MIN_SONGS_OF_GROUP <= len(songs) <= most}


def without(
    recipe: Recipe, recordings: tuple[Recording, ...], name: str, removed: set[int], seed_of: str = "A"
) -> Training:
    """Catalog A without some of its recordings; everything else is as in the training of model A, or A-second."""
    kept = tuple(i for i in members(recordings, "A") if i not in removed)
    return Training(name, kept, _seed_of(recipe, seed_of), tuple(sorted(removed)))


def _drawn(recipe: Recipe, what: str, number: int, catalog: list[int], n: int) -> set[int]:
    return set(random.Random(f"{what} {recipe.seed} {number}").sample(catalog, n))


def _seed_of(recipe: Recipe, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{recipe.seed} {name}".encode()).digest()[:4], "little") >> 1
