"""Losses of whole songs, code by code, and their gradients.

The loss of a song is the mean over its valid codes in each codebook, and then the mean over codebooks, in nats per
code. Each chunk goes through the model alone and at its own length, so that a number depends on the song's codes alone.
Latents take the place of codes where a model predicts those: a row that of a codebook, and the squared error of a
latent, as a mean over the model's draws, that of nats.

Shape legend: K = codebooks, T = frames of a chunk, P = frames of all chunks of a song.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.errors import NumericsError, SpecificationMismatch, UnlearningError
from lumina_ray.model.interface import AttributableModel
from lumina_ray.unlearning.select import Part
from lumina_ray.vocabulary import SongCodes


def check_codes(model: AttributableModel, codes: SongCodes, name: str) -> None:
    """Check that codes can be a model's.

    Raises:
        SpecificationMismatch: they are those of another codec.
    """
    own = model.representation
    for chunk_KT in codes.chunks:
        if codes.representation != own.name or len(chunk_KT) != own.rows:
            raise SpecificationMismatch(
                f"{name}: {codes.representation} of {len(chunk_KT)} rows, model {model.name!r} has {own.name} of "
                f"{own.rows}, which come from another codec; encode the audio with this model's codec"
            )
        if own.size and int(chunk_KT.max(initial=0)) >= own.size:
            raise SpecificationMismatch(
                f"{name}: codes of another codec: {len(chunk_KT)} codebooks with codes up to "
                f"{int(chunk_KT.max(initial=0))}, model {model.name!r} has {own.rows} codebooks of "
                f"{own.size} codes; encode the audio with this model's codec"
            )


def code_losses(model: AttributableModel, codes: SongCodes, padding_KT: np.ndarray | None = None) -> np.ndarray:
    """Loss of every code of a song: float32 `[K, P]`, in nats; NaN where a code does not count.

    Codes count that the delay pattern can predict, in frames that hold sound.

    Args:
        model: the model, with the weights that it has now.
        codes: the song.
        padding_KT: int codes `[K, T]` that shorter chunks are filled up with, to T frames, which then count too: as
            in a training that does not mask padding. By default (mask M_L) nothing is filled up.

    Raises:
        NumericsError: a loss is not finite.
        SpecificationMismatch: codes of another codec.
    """
    check_codes(model, codes, "song")
    pieces = []
    with torch.no_grad():
        for chunk_KT, heard_T in zip(codes.chunks, codes.heard, strict=True):
            chunk_KT, heard_T = _padded(chunk_KT, heard_T, padding_KT)
            nll_KT, valid_KT = _chunk(model, chunk_KT, heard_T)
            if not torch.isfinite(nll_KT[valid_KT]).all():
                raise NumericsError(f"model {model.name!r}: a loss is not finite; its weights cannot be right")
            pieces.append(torch.where(valid_KT, nll_KT, torch.nan).cpu().numpy())
    return np.concatenate(pieces, axis=1)


def song_loss(losses_KP: np.ndarray) -> float:
    """Mean of what `code_losses` gives: over codes that count, and then over codebooks; in nats per code."""
    return float(codebook_means(losses_KP).mean())


def codebook_means(values_KP: np.ndarray) -> np.ndarray:
    """Mean over the codes that count (are not NaN) of each codebook: float64 `[K]`; 0 where none does."""
    counted_KP = ~np.isnan(values_KP)
    totals_K = np.where(counted_KP, values_KP, 0).sum(axis=1, dtype=np.float64)
    return totals_K / np.maximum(counted_KP.sum(axis=1), 1)


def song_gradient(model: AttributableModel, codes: SongCodes, parts: Sequence[Part]) -> tuple[float, list[Tensor]]:
    """Loss of a song, and its gradient with respect to some rows of parameters.

    Args:
        codes: frames that are not heard do not count.
        parts: what to differentiate by.

    Returns:
        The loss in nats per code, and a float32 tensor for each part, of its shape.

    Raises:
        UnlearningError: no frame is heard.
        SpecificationMismatch: codes of another codec.
    """
    check_codes(model, codes, "song")
    n_K = _valid_codes(model, codes)
    if not n_K.all():
        raise UnlearningError(
            "nothing is left of the music once frames without sound are masked; take a clip that holds sound, or leave "
            "the mask out"
        )
    totals = [torch.zeros_like(part.values) for part in parts]
    loss = 0.0
    with _differentiable(model, parts) as parameters:
        for chunk_KT, heard_T in zip(codes.chunks, codes.heard, strict=True):
            nll_KT, valid_KT = _chunk(model, chunk_KT, heard_T)
            sums_K = torch.where(valid_KT, nll_KT, 0.0).sum(dim=1)
            of_chunk = (sums_K / torch.from_numpy(n_K).to(sums_K)).mean()
            gradients = torch.autograd.grad(of_chunk, parameters, allow_unused=True)
            by_parameter = dict(zip(map(id, parameters), gradients, strict=True))
            for total, part in zip(totals, parts, strict=True):
                if (gradient := by_parameter[id(part.parameter)]) is not None:
                    total += gradient[part.rows]
            loss += float(of_chunk.detach().double())
    return loss, totals


def chunk_gradients(
    model: AttributableModel, codes: SongCodes, parts: Sequence[Part]
) -> Iterator[tuple[int, list[Tensor]]]:
    """Gradient of the loss of each chunk alone.

    Yields:
        The number of valid codes of the chunk that hold sound, and a float32 tensor for each part; chunks without any
        are passed over.

    Raises:
        SpecificationMismatch: codes of another codec.
    """
    check_codes(model, codes, "song")
    for chunk_KT, heard_T, start_s in zip(codes.chunks, codes.heard, codes.starts_s, strict=True):
        alone = SongCodes((chunk_KT,), (start_s,), (heard_T,))
        n_K = _valid_codes(model, alone)
        if n_K.all():
            yield int(n_K.sum()), song_gradient(model, alone, parts)[1]


def _chunk(model: AttributableModel, chunk_KT: np.ndarray, heard_T: np.ndarray) -> tuple[Tensor, Tensor]:
    """Loss of every code, float32 `[K, T]`, and whether it counts, bool `[K, T]`."""
    codes_1KT = torch.from_numpy(chunk_KT.astype(model.representation.dtype))[None].to(model.device)
    heard_1T = torch.from_numpy(np.ascontiguousarray(heard_T))[None].to(model.device)
    losses = model.losses(codes_1KT, [chunk_KT.shape[1]], model.draws).of(heard_1T)
    return losses.values_BKT[0], losses.valid_BKT[0]


def _valid_codes(model: AttributableModel, codes: SongCodes) -> np.ndarray:
    """Number of codes of each codebook that count, int64 `[K]`."""
    return np.array([model.representation.counted(heard_T) for heard_T in codes.heard]).sum(axis=0)


def _padded(chunk_KT: np.ndarray, heard_T: np.ndarray, padding_KT: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if padding_KT is None or (n := chunk_KT.shape[1]) >= padding_KT.shape[1]:
        return chunk_KT, heard_T
    more_KT = padding_KT[:, n:].astype(chunk_KT.dtype)
    return np.concatenate([chunk_KT, more_KT], axis=1), np.concatenate([heard_T, np.ones(more_KT.shape[1], bool)])


@contextmanager
def _differentiable(model: AttributableModel, parts: Sequence[Part]) -> Iterator[list[nn.Parameter]]:
    """While active, only the parameters of some parts ask for gradients; what asked before asks again afterwards."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(part.parameter): part.parameter for part in parts}
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        yield list(wanted.values())
    finally:
        for parameter, asked in before:
            parameter.requires_grad_(asked)
