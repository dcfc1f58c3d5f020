"""Scores of songs by forgetting: what becomes of their losses once a model has forgotten a piece of music.

Shape legend: K = codebooks, P = frames of all chunks of a song, N = songs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lumina_ray.errors import UnlearningError
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.interface import AttributableModel
from lumina_ray.unlearning.losses import code_losses, codebook_means, song_gradient
from lumina_ray.unlearning.select import select_parts
from lumina_ray.unlearning.unlearn import Forgetting, Forgotten, inverse_fisher, unlearned
from lumina_ray.vocabulary import Channel, RepresentationName, SongCodes, codebooks_of

Score = Literal["plain", "relative", "mucs"]
"""How two losses of a song are compared.

"plain" is the rise of the loss, in nats per code: `L(z, θ∖ẑ) − L(z, θ₀)`. "relative" is that rise as a part of the loss
before. "mucs" is the mean over codes of `(ℓ∖ẑ − ℓ₀) / (ℓ∖ẑ + ℓ₀ + 0.001)`, after MUCS (Serrà et al. 2026,
arXiv:2605.17938), where it is a mean over draws of noise.
"""
SCORES: tuple[Score, ...] = get_args(Score)
_MUCS_EPSILON = 1e-3


@dataclass(frozen=True, eq=False)
class Rises:
    """What became of some songs' losses.

    Attributes:
        values: by score, float64 `[N, K]`; a column for each codebook, or for each row of latents.
        representation: what the songs are written down in.
    """

    values: dict[Score, np.ndarray]
    representation: RepresentationName = "codes"

    def of(self, score: Score = "plain", channel: Channel | None = None) -> np.ndarray:
        """Scores of the songs, float64 `[N]`; larger means more influence.

        Args:
            score: how losses are compared.
            channel: mean over the channel's codebooks: the first (P), the others (M); by default over all. No latents
                belong to one channel alone: over all of them.
        """
        of_codebooks_NK = self.values[score]
        if channel is not None and self.representation == "codes":
            of_codebooks_NK = of_codebooks_NK[:, codebooks_of(channel, of_codebooks_NK.shape[1])]
        return of_codebooks_NK.mean(axis=1)


def compare(before_KP: np.ndarray, after_KP: np.ndarray) -> dict[Score, np.ndarray]:
    """Compare what `code_losses` gave of one song before and after forgetting: float64 `[K]` by score."""
    before, after = before_KP.astype(np.float64), after_KP.astype(np.float64)
    rise_K, before_K = codebook_means(after - before), codebook_means(before)
    return {
        "plain": rise_K,
        "relative": np.divide(rise_K, before_K, out=np.zeros_like(rise_K), where=before_K > 0),
        "mucs": codebook_means((after - before) / (after + before + _MUCS_EPSILON)),
    }


def collect(of_songs: Sequence[dict[Score, np.ndarray]], representation: RepresentationName = "codes") -> Rises:
    """Put what `compare` gave of several songs together."""
    return Rises({score: np.stack([song[score] for song in of_songs]) for score in SCORES}, representation)


def rises(
    model: AttributableModel,
    query: SongCodes,
    songs: Iterable[SongCodes],
    before: Sequence[np.ndarray],
    fisher: Fisher,
    how: Forgetting = Forgetting(),
    padding_KT: np.ndarray | None = None,
) -> tuple[Rises, Forgotten]:
    """Let a model forget a query, and compare the losses of songs before and after. The model is then as it was.

    Args:
        before: what `code_losses` gave of each song.
        padding_KT: as in `code_losses`.
    """
    with unlearned(model, query, fisher, how) as forgotten:
        found = [
            compare(before_KP, code_losses(model, song, padding_KT))
            for song, before_KP in zip(songs, before, strict=True)
        ]
    return collect(found, model.representation.name), forgotten


def first_order(
    model: AttributableModel,
    query: SongCodes,
    songs: Sequence[SongCodes],
    fisher: Fisher,
    how: Forgetting = Forgetting(),
) -> np.ndarray:
    """Rise of each song's loss by the slope at the model's own weights alone: float64 `[N]`, in nats per code.

    `∇L(z)ᵀ (F + λ)⁻¹ ∇L(ẑ) / N`, with N such that the loss of the query itself rises by the trust region's nats. No
    weight is changed.

    Raises:
        UnlearningError: the gradient of the query is zero, or nothing of it is heard.
    """
    parts = select_parts(model, how.layers)
    _, gradients = song_gradient(model, how.masked(query), parts)
    inverse = inverse_fisher(fisher, parts, how.damping)
    directions = [v.to(model.device) * g.double() for v, g in zip(inverse, gradients, strict=True)]
    slope = sum(float((d * g.double()).sum()) for d, g in zip(directions, gradients, strict=True))
    if not slope > 0:
        raise UnlearningError("the gradient of the music is zero for these weights; choose other layers")
    rises = []
    for song in songs:
        _, of_song = song_gradient(model, song, parts)
        rises.append(sum(float((d * g.double()).sum()) for d, g in zip(directions, of_song, strict=True)))
    return how.trust_nats / slope * np.array(rises)
