"""Trains a model of a bank so smoothly that leaving a song out has an effect in proportion to its weight.

Every model starts from one base model, which knows other music, and learns its songs by AdamW at a small rate. Removed
songs keep their places in the order and have weight 0, so that two models differ by nothing but what they learned.
Replaying such a training predicts removals; with Muon, or from random weights at a fast rate, chaos hides them
(Park et al. 2025, arXiv:2504.16430, call trainings of the first kind metasmooth).
"""

import math
import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lumina_ray.gradients import chunk_losses
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.captions import draw_text
from lumina_ray.training.data import step_generator

WINDOW_FRAMES = 500
"""Songs are cut where fingerprints cut them: a bank asks models about the sequences that they learned."""
RATE = 1e-3
_EPSILON = 3e-4
_WARMUP = 0.25
_LAST_RATE = 0.05
_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.01
_CLIP = 1.0
_UNIFORM = (1.0, 1.0, 1.0, 1.0)


def fine_tune(
    model: TransformersMusicGen,
    songs: Sequence[Tensor],
    captions: Sequence[str],
    learned: Sequence[bool],
    *,
    epochs: float,
    batch: int,
    seed: int,
) -> Iterator[tuple[int, int]]:
    """Train the decoder of `model` in place; its text encoder stays as it is.

    Args:
        songs: codes, int64 `[K, T]` each, of the songs that learn and of those that only keep their places.
        captions: one for each song.
        learned: whether each song has weight 1; the others have weight 0.
        epochs: passes over all songs.
        batch: windows of 10 s in a step; of shorter windows, as many as have that many frames together.
        seed: of the order of windows and of their texts.

    Yields:
        After each step: its number, from 1, and the number of all steps.
    """
    windows = [
        (song, songs[song][:, begin : begin + WINDOW_FRAMES])
        for song in range(len(songs))
        for begin in range(0, songs[song].shape[1], WINDOW_FRAMES)
    ]
    steps = _order([window_KT.shape[1] for _, window_KT in windows], epochs, batch, seed)
    decoder = model.model.decoder
    optimizer = torch.optim.AdamW(decoder.parameters(), betas=_BETAS, eps=_EPSILON, weight_decay=_WEIGHT_DECAY)
    decoder.train()
    for step, drawn in enumerate(steps):
        optimizer.param_groups[0]["lr"] = rate(step, len(steps))
        # A generator for each window: how much a removed song's caption draws changes no other text.
        texts = [
            draw_text(captions[windows[i][0]], step_generator(seed, step * len(windows) + place))
            for place, i in enumerate(drawn)
        ]
        kept = [place for place, i in enumerate(drawn) if learned[windows[i][0]]]
        optimizer.zero_grad(set_to_none=False)
        if kept:
            codes_BKT, frames = _stacked([windows[drawn[place]][1] for place in kept], model.device)
            with torch.no_grad():
                conditions_BND, mask_BN = model.text.conditions([texts[place] for place in kept])
            prediction = model.predict(codes_BKT, frames, conditions_BND, mask_BN)
            # Over all that were drawn: what others weigh must not depend on how many are removed.
            (chunk_losses(prediction, codes_BKT, _UNIFORM).sum() / len(drawn)).backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), _CLIP)
        optimizer.step()
        yield step + 1, len(steps)
    decoder.eval()


def rate(step: int, steps: int) -> float:
    """Learning rate of a step, from 0: a linear warm-up over a quarter of the steps, then a cosine to a twentieth."""
    warmup = max(1, round(_WARMUP * steps))
    if step < warmup:
        return RATE * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return RATE * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))


def count_steps(frames: Sequence[int], epochs: float, batch: int) -> int:
    """How many steps a training on windows of these lengths has."""
    return len(_order(frames, epochs, batch, seed=0))


def _order(frames: Sequence[int], epochs: float, batch: int, seed: int) -> list[list[int]]:
    """The windows of each step: each window once in a pass, windows of one length together."""
    rng = random.Random(f"order {seed}")
    of_length: dict[int, list[int]] = {}
    for i, n in enumerate(frames):
        of_length.setdefault(n, []).append(i)
    steps: list[list[int]] = []
    for _ in range(math.ceil(epochs)):
        of_pass: list[list[int]] = []
        for n, windows in of_length.items():
            order, size = rng.sample(windows, len(windows)), max(1, batch * WINDOW_FRAMES // n)
            of_pass += [order[begin : begin + size] for begin in range(0, len(order), size)]
        steps += rng.sample(of_pass, len(of_pass))
    return steps[: round(len(steps) * epochs / math.ceil(epochs))]


def _stacked(windows: Sequence[Tensor], device: torch.device) -> tuple[Tensor, list[int]]:
    return torch.stack(list(windows)).to(device), [window_KT.shape[1] for window_KT in windows]
