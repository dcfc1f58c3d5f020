"""Training the language model: MusicGen's own objective on the catalog's codes, and nothing else."""

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
_BATCH = 2
_PEAK_RATE = 1e-3
_WEIGHT_DECAY = 0.1
_UNIFORM = (1.0, 1.0, 1.0, 1.0)
# Classifier-free guidance needs a model that has also seen no text (Copet et al. 2023, §3.1, there 0.2).
_NO_TEXT_PROBABILITY = 0.1


@dataclass(frozen=True)
class LmSchedule:
    """Optimiser steps in all, and after how many of them the early checkpoint is kept."""

    total: int = 2200
    early: int = 700


def encode_songs(codec: EncodecModel, songs: list[np.ndarray]) -> list[Tensor]:
    """Codes int64 `[K, T]` of whole songs."""
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
    """Train the decoder of `model` in place on int64 codes `[K, T]` of whole songs.

    Args:
        report: called every `report_every` steps, at the early checkpoint and at the end with metrics (`loss` in nats
            per code, mean since the last report) and a state that `resume` continues from, to the same weights as
            without the interruption.
    """
    decoder = model.model.decoder
    matrices = [p for p in decoder.parameters() if p.dim() > 1]
    vectors = [p for p in decoder.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": _WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}],
        lr=_PEAK_RATE,
        betas=(0.9, 0.95),
    )
    first, recent = 0, []
    if resume is not None:
        decoder.load_state_dict(resume["model"])
        optimizer.load_state_dict(resume["optimizer"])
        first, recent = resume["step"], resume["recent"]
    windows_NKT = aligned_windows(songs, _WINDOW_FRAMES)
    no_text_1ND = torch.zeros_like(model.condition)
    decoder.train()
    for step in range(first, schedule.total):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, schedule.total, _PEAK_RATE)
        generator = step_generator(seed, step)
        codes_BKT = windows_NKT[torch.randint(len(windows_NKT), (_BATCH,), generator=generator)]
        without_text = float(torch.rand((), generator=generator)) < _NO_TEXT_PROBABILITY
        condition_1ND = no_text_1ND if without_text else model.condition
        prediction = model.predict(codes_BKT, [_WINDOW_FRAMES] * _BATCH, condition_1ND)
        loss = chunk_losses(prediction, codes_BKT, _UNIFORM).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        done = step + 1
        if done % report_every == 0 or done in (schedule.early, schedule.total):
            state = {"step": done, "model": decoder.state_dict(), "optimizer": optimizer.state_dict(), "recent": []}
            report({"step": done, "loss": float(np.mean(recent))}, state)
            recent = []
    decoder.eval()


def evaluate_lm(model: TransformersMusicGen, songs: list[Tensor]) -> float:
    """Teacher-forced loss in nats per code, mean over the first 10 s of every song, codebooks weighing the same."""
    was_training = model.model.decoder.training
    model.model.decoder.eval()
    losses = []
    with torch.no_grad():
        for codes_KT in songs:
            codes_1KT = codes_KT[None, :, :_WINDOW_FRAMES]
            losses.append(float(chunk_losses(model.predict(codes_1KT, [codes_1KT.shape[2]]), codes_1KT, _UNIFORM)))
    model.model.decoder.train(was_training)
    return float(np.mean(losses))
