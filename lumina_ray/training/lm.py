"""Trains the language model with MusicGen's own objective, on the catalog's codes and captions alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.audio import cut_chunks
from lumina_ray.fingerprint.codes import encode_song
from lumina_ray.gradients import chunk_losses
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.captions import NO_TEXT_PROBABILITY, draw_text
from lumina_ray.training.codec import Report
from lumina_ray.training.data import Song, aligned_windows, learning_rate, step_generator

_WINDOW_FRAMES = 500
# Learning rates of Muon, which moves whole matrices by orthogonal steps (Jordan et al. 2024), and of AdamW. On these 16
# layers, Muon reached in 200 steps a loss for which AdamW alone took over 600.
MATRIX_RATE = 0.02
_OTHER_RATE = 3e-3
_WEIGHT_DECAY = 0.1
_UNIFORM = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class LmSchedule:
    """Training steps of the language model.

    Attributes:
        total: number of optimiser steps.
        early: number of steps after which the early checkpoint is kept.
        batch: number of 10 s windows in each step.
    """

    total: int = 2000
    early: int = 600
    batch: int = 2


def encode_chunks(model: TransformersMusicGen, songs: Sequence[Song]) -> list[list[Tensor]]:
    """Encode songs as fingerprints do: at the common level, chunk by chunk, and without chunks of hardly any sound.

    Returns:
        For every song the codes of its chunks, int64 `[K, T]` each with T ≤ 500.

    Raises:
        AudioError: a song is silent, or shorter than 1 s.
    """
    encoded = [encode_song(model, cut_chunks(song.samples, song.name)).chunks for song in songs]
    return [[torch.from_numpy(codes_KT.astype(np.int64)) for codes_KT in chunks] for chunks in encoded]


def train_lm(
    model: TransformersMusicGen,
    songs: list[Tensor],
    schedule: LmSchedule,
    *,
    seed: int,
    report: Report,
    captions: Sequence[str | None] | None = None,
    report_every: int = 50,
    resume: dict[str, Any] | None = None,
) -> None:
    """Train the decoder of `model` in place, and with captions its text encoder, too.

    Args:
        model: the model.
        songs: codes of whole songs or of chunks, int64 `[K, T]` each.
        schedule: number of steps and size of a batch.
        seed: seed of the training windows and their texts.
        report: called every `report_every` steps, at the early checkpoint and at the end, with a state and metrics.
            `loss` is the mean since the last report, in nats per code.
        captions: one for each of `songs`, or None for a song that has none: each window's text is drawn by
            `draw_text`. By default all songs are trained under the fixed text, or none, as the text encoder has it.
        report_every: steps between two reports.
        resume: a state that `report` was given. Training continues from it, and ends with the weights that it would
            have without the interruption.
    """
    decoder = model.model.decoder
    # In evaluation mode the text encoder drops nothing out, which would take random numbers that no seed decides.
    trained = nn.ModuleList([decoder] if captions is None else [decoder, *model.text.modules()])
    matrices = [p for layer in decoder.model.decoder.layers for p in layer.parameters() if p.dim() == 2]
    in_layers = {id(p) for p in matrices}
    others = [p for p in trained.parameters() if id(p) not in in_layers]
    rates = (MATRIX_RATE, _OTHER_RATE)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, weight_decay=_WEIGHT_DECAY),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=_WEIGHT_DECAY / 10),
    ]
    first, recent = 0, []
    if resume is not None:
        trained.load_state_dict(resume["model"])
        for optimizer, state in zip(optimizers, resume["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first, recent = resume["step"], resume["recent"]
    windows = aligned_windows(songs, _WINDOW_FRAMES)
    decoder.train()
    for step in range(first, schedule.total):
        for optimizer, peak in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = learning_rate(step, schedule.total, peak)
        generator = step_generator(seed, step)
        drawn = torch.randint(len(windows.frames), (schedule.batch,), generator=generator)
        codes_BKT = windows.codes_NKT[drawn].to(model.device)
        if captions is None:
            without_text = float(torch.rand((), generator=generator)) < NO_TEXT_PROBABILITY
            conditions_BND, mask_BN = torch.zeros_like(model.condition) if without_text else model.condition, None
        else:
            texts = [draw_text(captions[windows.songs[i]], generator) for i in drawn]
            conditions_BND, mask_BN = model.text.conditions(texts)
        prediction = model.predict(codes_BKT, [windows.frames[i] for i in drawn], conditions_BND, mask_BN)
        loss = chunk_losses(prediction, codes_BKT, _UNIFORM).mean()
        trained.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        recent.append(loss.item())
        done = step + 1
        if done % report_every == 0 or done in (schedule.early, schedule.total):
            state = {
                "step": done,
                "model": trained.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "recent": [],
            }
            report({"step": done, "loss": float(np.mean(recent))}, state)
            recent = []
    decoder.eval()
    model.refresh_condition()


def evaluate_lm(
    model: TransformersMusicGen, songs: list[Tensor], captions: Sequence[str | None] | None = None
) -> float:
    """Teacher-forced loss in nats per code: the mean over the first 10 s of every song, with equal codebook weights.

    Args:
        model: the model.
        songs: codes, int64 `[K, T]` each.
        captions: one for each song, as it is written; songs without one, and all songs by default, have the fixed text.
    """
    was_training = model.model.decoder.training
    model.model.decoder.eval()
    losses = []
    with torch.no_grad():
        for i, codes_KT in enumerate(songs):
            codes_1KT = codes_KT[None, :, :_WINDOW_FRAMES]
            caption = captions[i] if captions else None
            condition_1ND = model.condition if caption is None else model.text.conditions([caption])[0]
            prediction = model.predict(codes_1KT, [codes_1KT.shape[2]], condition_1ND)
            losses.append(float(chunk_losses(prediction, codes_1KT, _UNIFORM)))
    model.model.decoder.train(was_training)
    return float(np.mean(losses))
