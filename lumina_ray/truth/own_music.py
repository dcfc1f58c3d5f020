"""The music of a bank for an operator's own model: what models learn of each song, and what they are asked about."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumina_ray.truth.own_recipe import OwnRecipe
from lumina_ray.truth.pieces import Order
from lumina_ray.truth.queries import Piece, Query, Split
from lumina_ray.vocabulary import SongCodes

_SPLITS: tuple[Split, Split] = ("dev", "test")


@dataclass(frozen=True)
class OwnSong:
    """A song of the catalog.

    Attributes:
        song_id: in the store.
        caption: words for it; "" for none that the model knows.
    """

    song_id: str
    caption: str = ""

    @property
    def work(self) -> str:
        """A name that its queries have in common, and no other song's."""
        return self.song_id


@dataclass(frozen=True)
class OwnMusic:
    """Music of the catalog, song by song.

    Attributes:
        songs: in the order of their ids.
        learned: what models learn from.
        excerpts: what follows, by number of the song; none of a song of one chunk, which is learned whole.
    """

    songs: tuple[OwnSong, ...]
    learned: list[Piece]
    excerpts: dict[int, Piece]

    @property
    def codes(self) -> list[Tensor]:
        """Codes of `learned`, int64 `[K, T]` each."""
        return [piece.codes_KT for piece in self.learned]

    @property
    def captions(self) -> list[str | None]:
        """Captions as trainings take them."""
        return [song.caption or None for song in self.songs]


def cut_songs(songs: Sequence[OwnSong], codes: Sequence[SongCodes]) -> OwnMusic:
    """Set the last chunk of every song apart, which has two or more.

    Args:
        codes: of whole songs, in the same order.
    """
    learned, excerpts = [], {}
    for i, song in enumerate(codes):
        n_learned = max(1, len(song.chunks) - 1)
        learned.append(_piece(song, slice(n_learned)))
        if n_learned < len(song.chunks):
            excerpts[i] = _piece(song, slice(n_learned, None))
    return OwnMusic(tuple(songs), learned, excerpts)


def whole(codes: SongCodes) -> Piece:
    """A song from beginning to end."""
    return _piece(codes, slice(None))


def own_orders(recipe: OwnRecipe, music: OwnMusic) -> tuple[Order, ...]:
    """List the pieces that the model of the whole catalog makes up.

    Under the captions of songs where they have any, from nothing and going on from their beginnings; else under the
    fixed text.
    """
    rng = random.Random(f"pieces {recipe.seed}")
    long = [i for i, piece in enumerate(music.learned) if piece.codes_KT.shape[1] >= recipe.prompt_frames]
    captioned = [i for i in long if music.songs[i].caption]
    captions = sorted({song.caption for song in music.songs if song.caption})
    made: list[Order] = []
    if captions:
        made.append(Order("captioned", tuple(rng.sample(captions, min(recipe.pieces, len(captions))))))
    else:
        made.append(Order("generated", ("",) * recipe.pieces))
    prompts = sorted(rng.sample(captioned or long, min(recipe.pieces, len(captioned or long))))
    if captioned:
        made.append(Order("continued", tuple(music.songs[i].caption for i in prompts), tuple(prompts)))
    else:
        made.append(Order("prompted", ("",) * len(prompts), tuple(prompts)))
    return tuple(order for order in made if order.captions)


def own_queries(recipe: OwnRecipe, music: OwnMusic, wanted: Sequence[Order], made: Sequence[Tensor]) -> Iterator[Query]:
    """Excerpts and made-up pieces. Songs and captions are wholly of one split.

    Args:
        made: int64 `[B, K, T]` for each order.
    """
    of_song = _halved(range(len(music.songs)), f"songs {recipe.seed}")
    for i, piece in music.excerpts.items():
        yield Query("excerpt", "A", i, of_song[i], piece.codes_KT, heard_T=piece.heard_T)
    for order, codes_BKT in zip(wanted, made, strict=True):
        of_piece = _halved(range(len(order.captions)), f"{order.kind} {recipe.seed}")
        for number, (caption, codes_KT) in enumerate(zip(order.captions, codes_BKT, strict=True)):
            song = order.prompts[number] if order.prompts else -1
            split = of_song[song] if order.prompts else of_piece[number]
            yield Query(order.kind, "A", song, split, codes_KT, caption=caption)


def _halved(numbers: Sequence[int], seed: str) -> dict[int, Split]:
    """Half of some numbers for dev, and half for test."""
    return {number: _SPLITS[i % 2] for i, number in enumerate(random.Random(seed).sample(numbers, len(numbers)))}


def _piece(song: SongCodes, chunks: slice) -> Piece:
    codes_KT = np.concatenate(song.chunks[chunks], axis=1).astype(np.int64)
    return Piece(torch.from_numpy(codes_KT), torch.from_numpy(np.concatenate(song.heard[chunks])))
