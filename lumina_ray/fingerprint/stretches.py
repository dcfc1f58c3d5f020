"""Cuts the chunks of a short query into halves, so that it can be told how far the query resembles itself.

Music of one or two chunks has no other part to be compared with, or one. The gradient of a chunk is a sum over its
steps, so the gradient of half of its steps costs no pass through the model of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lumina_ray.gradients import WeightCall

ENOUGH_CHUNKS = 3
"""Chunks from which a query is told apart by its chunks alone."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of one chunk.

    Attributes:
        chunk: the chunk's number in the song.
        start, stop: of its frames, from the first to before the last.
    """

    chunk: int
    start: int
    stop: int


def cut(heard: Sequence[np.ndarray], half: int, least: int) -> list[Stretch]:
    """Say which stretches of a song are fingerprinted by themselves, in its order.

    Args:
        heard: bool `[T]` of each chunk: which of its frames hold sound.
        half: a chunk of no more frames is not cut: those of half a full chunk, or of a full one where no half has a
            vector of its own.
        least: frames with sound that each part of a chunk must have for it to be cut.
    """
    out: list[Stretch] = []
    for i, heard_T in enumerate(heard):
        n = len(heard_T)
        parts = [(0, n // 2), (n // 2, n)] if len(heard) < ENOUGH_CHUNKS and n > half else [(0, n)]
        if any(heard_T[start:stop].sum() < least for start, stop in parts):
            parts = [(0, n)]
        out += [Stretch(i, start, stop) for start, stop in parts]
    return out


def calls_in(calls: Sequence[WeightCall], stretch: Stretch, n_frames: int, chunk_frames: int) -> list[WeightCall]:
    """Keep what a stretch's steps add to the gradients of a batch.

    Args:
        calls: of the whole batch, which stay as they are.
        n_frames: frames of the stretch's chunk.
        chunk_frames: frames that every chunk of the batch is padded to.
    """
    if (stretch.start, stretch.stop) == (0, n_frames):
        return list(calls)
    # Steps behind the chunk's last frame are of the codes that the delay pattern holds back.
    steps = slice(stretch.start, None if stretch.stop == n_frames else stretch.stop)
    kept = []
    for call in calls:
        # Steps of the text are at no time of the music.
        of_call = steps if call.input_BSN.shape[1] >= chunk_frames else slice(0, 0)
        kept.append(
            replace(
                call,
                input_BSN=call.input_BSN[:, of_call].contiguous(),
                output_grad_BSM=call.output_grad_BSM[:, of_call].contiguous(),
            )
        )
    return kept
