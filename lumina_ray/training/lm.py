"""Trains the language model with MusicGen's own objective, on the catalog's codes alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EncodecModel

from lumina_ray.gradients import chunk_losses
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.codec import Report
from lumina_ray.training.data import aligned_windows, learning_rate, step_generator

_WINDOW_FRAMES = 500
# Learning rates of Muon, which moves whole matrices by orthogonal steps (Jordan et al. 2024), and of AdamW. On these 16
# layers, Muon reached in 200 steps a loss for which AdamW alone took over 600.
MATRIX_RATE = 0.02
_OTHER_RATE = 3e-3
_WEIGHT_DECAY = 0.1
_UNIFORM = (1.0, 1.0, 1.0, 1.0)
# Classifier-free guidance needs a model that was also trained without text (Copet et al. 2023, §3.1, with 0.2).
_NO_TEXT_PROBABILITY = 0.1


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


def encode_songs(codec: EncodecModel, songs: list[np.ndarray]) -> list[Tensor]:
    """Encode whole songs, float32 `[n]` each (mono, 32 kHz), to codes int64 `[K, T]`."""
    with torch.no_grad():
        return [codec.encode(torch.from_numpy(song)[None, None]).audio_codes[0, 0] for song in songs]


def train_lm(
    model: TransformersMusicGen,
    songs: list[Tensor],
    schedule: LmSchedule,
    *,
    seed: int,
    report: Report,
    report_every: int = 50,
    resume: dict[str, Any] | None = None,
) -> None:
    """Train the decoder of `model` in place.

    Args:
        model: the model.
        songs: codes of whole songs, int64 `[K, T]` each.
        schedule: number of steps and size of a batch.
        seed: seed of the training windows.
        report: called every `report_every` steps, at the early checkpoint and at the end, with a state and metrics.
            `loss` is the mean since the last report, in nats per code.
        report_every: steps between two reports.
        resume: a state that `report` was given. Training continues from it, and ends with the weights that it would
            have without the interruption.

    Raises:
        ValueError: every song is shorter than 10 s.
    """
    decoder = model.model.decoder
    matrices = [p for layer in decoder.model.decoder.layers for p in layer.parameters() if p.dim() == 2]
    in_layers = {id(p) for p in matrices}
    others = [p for p in decoder.parameters() if id(p) not in in_layers]
    rates = (MATRIX_RATE, _OTHER_RATE)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, weight_decay=_WEIGHT_DECAY),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=_WEIGHT_DECAY / 10),
    ]
    first, recent = 0, []
    if resume is not None:
        decoder.load_state_dict(resume["model"])
        for optimizer, state in zip(optimizers, resume["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first, recent = resume["step"], resume["recent"]
    windows_NKT = aligned_windows(songs, _WINDOW_FRAMES)
    no_text_1ND = torch.zeros_like(model.condition)
    decoder.train()
    for step in range(first, schedule.total):
        for optimizer, peak in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = learning_rate(step, schedule.total, peak)
        generator = step_generator(seed, step)
        codes_BKT = windows_NKT[torch.randint(len(windows_NKT), (schedule.batch,), generator=generator)].to(
            model.device
        )
        without_text = float(torch.rand((), generator=generator)) < _NO_TEXT_PROBABILITY
        condition_1ND = no_text_1ND if without_text else model.condition
        prediction = model.predict(codes_BKT, [_WINDOW_FRAMES] * schedule.batch, condition_1ND)
        loss = chunk_losses(prediction, codes_BKT, _UNIFORM).mean()
        decoder.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        recent.append(loss.item())
        done = step + 1
        if done % report_every == 0 or done in (schedule.early, schedule.total):
            state = {
                "step": done,
                "model": decoder.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "recent": [],
            }
            report({"step": done, "loss": float(np.mean(recent))}, state)
            recent = []
    decoder.eval()


def evaluate_lm(model: TransformersMusicGen, songs: list[Tensor]) -> float:
    """Teacher-forced loss in nats per code: the mean over the first 10 s of every song, with equal codebook weights.

    Args:
        songs: codes, int64 `[K, T]` each.
    """
    was_training = model.model.decoder.training
    model.model.decoder.eval()
    losses = []
    with torch.no_grad():
        for codes_KT in songs:
            codes_1KT = codes_KT[None, :, :_WINDOW_FRAMES]
            losses.append(float(chunk_losses(model.predict(codes_1KT, [codes_1KT.shape[2]]), codes_1KT, _UNIFORM)))
    model.model.decoder.train(was_training)
    return float(np.mean(losses))
