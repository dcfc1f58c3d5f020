"""Pieces that the models of a bank make up, and the queries that come of them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.corpus import Audited, Recording, members
from lumina_ray.truth.models import generate
from lumina_ray.truth.queries import QUERY_FRAMES, Query, QueryKind, continuations, made_up_queries
from lumina_ray.truth.recipe import Recipe

GUIDANCE = 3.0
# Under one caption with guidance, pieces resemble each other: one is enough.
_PIECES_PER_CAPTION = 2
_CONTINUED_SONGS = 32


@dataclass(frozen=True)
class Order:
    """Pieces of one kind that a model is to make up.

    Attributes:
        kind: of the queries that they become.
        captions: one for each piece, "" for the fixed text.
        prompts: positions in the corpus of the recordings that they go on from; none for pieces from nothing.
        guidance: see `SamplingSettings`.
    """

    kind: QueryKind
    captions: tuple[str, ...]
    prompts: tuple[int, ...] = ()
    guidance: float = 1.0


class Sampled(Protocol):
    """The part of a recipe that decides pieces: `prompt_frames`, with which models continue recordings, and a seed."""

    @property
    def prompt_frames(self) -> int: ...
    @property
    def seed(self) -> int: ...


def orders(recipe: Recipe, name: str, recordings: tuple[Recording, ...], captions: Sequence[str]) -> tuple[Order, ...]:
    """List the pieces that a model of a bank makes up, by its name.

    "A" makes pieces of all kinds. "B" makes what the twin test asks both for: free pieces and continuations of twins.
    "reference", which never heard the catalog, makes pieces under the same captions as A.

    Args:
        captions: of every recording.
    """
    chosen = _captions(recipe, recordings, captions)
    if name == "reference":
        return (Order("foreign", chosen),)
    twins = tuple(i for i, recording in enumerate(recordings) if recording.role == "twin")
    both = (Order("generated", ("",) * recipe.free), Order("prompted", ("",) * len(twins), twins))
    if name != "A":
        return both
    others = [i for i in members(recordings, "A") if recordings[i].role != "twin"]
    songs = sorted(random.Random(f"continued {recipe.seed}").sample(others, min(_CONTINUED_SONGS, len(others))))
    return (
        *both,
        Order("captioned", chosen * _PIECES_PER_CAPTION),
        Order("guided", chosen, guidance=GUIDANCE),
        Order("continued", tuple(captions[i] for i in songs), tuple(songs)),
    )


def make_pieces(
    recipe: Sampled, model: TransformersMusicGen, wanted: Sequence[Order], codes: Sequence[Tensor]
) -> list[Tensor]:
    """Sample what is ordered: int64 `[B, K, T]` for each order, prompts left out.

    Args:
        codes: of every recording, int64 `[K, T]`.
    """
    made = []
    for number, order in enumerate(wanted):
        texts = order.captions if any(order.captions) else None
        prompts_BKT, n_frames = None, QUERY_FRAMES
        if order.prompts:
            prompts_BKT = torch.stack([codes[i][:, : recipe.prompt_frames] for i in order.prompts])
            n_frames -= recipe.prompt_frames
        seed = recipe.seed + number
        made.append(generate(model, len(order.captions), n_frames, seed, prompts_BKT, texts, order.guidance))
    return made


def piece_queries(
    recordings: tuple[Recording, ...], model: Audited, wanted: Sequence[Order], made: Sequence[Tensor], seed: int
) -> Iterator[Query]:
    """Queries of what a model made up.

    Args:
        model: the audited model that is asked about the pieces.
        made: from `make_pieces`.
    """
    for order, codes_BKT in zip(wanted, made, strict=True):
        if order.prompts:
            yield from continuations(order.kind, recordings, model, order.prompts, codes_BKT, order.captions, seed)
        else:
            yield from made_up_queries(order.kind, model, codes_BKT, order.captions, seed)


def _captions(recipe: Recipe, recordings: tuple[Recording, ...], captions: Sequence[str]) -> tuple[str, ...]:
    """Captions of catalog A to make music under, all different."""
    different = sorted({captions[i] for i in members(recordings, "A")})
    return tuple(
        sorted(random.Random(f"captions {recipe.seed}").sample(different, min(recipe.captions, len(different))))
    )
