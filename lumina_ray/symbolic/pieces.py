"""Pieces of a symbolic bank: scores of the demo catalog as events, each with what is held out and its features."""

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lumina_ray.demo.scores import corpus_midi, freedoom_midi
from lumina_ray.demo.songs import DemoSong, demo_songs
from lumina_ray.errors import UsageError
from lumina_ray.symbolic.events import encode, seconds
from lumina_ray.symbolic.features import symbolic_features
from lumina_ray.symbolic.notes import notes_of
from lumina_ray.symbolic.recipe import SymbolicRecipe

QueryKind = Literal["excerpt", "generated"]


@dataclass(frozen=True)
class Piece:
    """A score as a model learns it.

    Attributes:
        name: id of the demo's song.
        learned_WT: int64 events, window by window.
        held_T: int64, the window after them.
        features: of the notes that begin in `learned_WT`, as `symbolic_features` gives them.
    """

    name: str
    learned_WT: np.ndarray
    held_T: np.ndarray
    features: dict[str, np.ndarray]


@dataclass(frozen=True)
class Query:
    """Music that all models are asked about.

    Attributes:
        kind: an excerpt of a piece that follows what was learned of it, or the model's own continuation of one.
        piece: number of the piece.
        events_T: int64.
        first: place of the first event whose loss counts.
    """

    kind: QueryKind
    piece: int
    events_T: np.ndarray
    first: int


def scores() -> tuple[DemoSong, ...]:
    """The demo's songs that are made from scores, by id."""
    return tuple(sorted((song for song in demo_songs() if song.kind != "immich"), key=lambda song: song.song_id))


def make_piece(song: DemoSong, recipe: SymbolicRecipe) -> Piece | None:
    """Read a score; None where it is too short for the recipe.

    Raises:
        UsageError: a package is missing.
        MidiError: the score has no notes but drums.
    """
    midi = freedoom_midi(song.ref) if song.kind == "freedoom" else corpus_midi(song.ref)
    notes = notes_of(midi, song.song_id)
    learned = recipe.window * recipe.windows
    events_T = encode(notes)[: learned + recipe.window]
    if len(events_T) < learned + recipe.window:
        return None
    features = symbolic_features(notes.before(float(notes.start_s_n[0]) + seconds(events_T[:learned]) + 1e-9))
    return Piece(song.song_id, events_T[:learned].reshape(-1, recipe.window), events_T[learned:], features)


def chosen(found: list[Piece], recipe: SymbolicRecipe) -> list[Piece]:
    """Draw the pieces of a bank from those that are long enough; they come in the order of their names.

    Raises:
        UsageError: there are fewer than four, or fewer than the recipe's queries.
    """
    found = sorted(found, key=lambda piece: piece.name)
    drawn = random.Random(f"pieces {recipe.seed}").sample(found, min(recipe.pieces, len(found)))
    if len(drawn) < max(4, recipe.excerpts, recipe.generated):
        raise UsageError(
            f"{len(drawn)} scores have {recipe.window * (recipe.windows + 1)} events; the bank needs more: shorten its "
            "windows, or ask for fewer queries"
        )
    return sorted(drawn, key=lambda piece: piece.name)


def asked_pieces(recipe: SymbolicRecipe, kind: QueryKind, n_pieces: int) -> list[int]:
    """Numbers of the pieces that there are queries of."""
    wanted = recipe.excerpts if kind == "excerpt" else recipe.generated
    return sorted(random.Random(f"{kind} {recipe.seed}").sample(range(n_pieces), wanted))


def excerpts(recipe: SymbolicRecipe, pieces: list[Piece]) -> list[Query]:
    """Queries of what is held out."""
    return [Query("excerpt", i, pieces[i].held_T, 0) for i in asked_pieces(recipe, "excerpt", len(pieces))]
