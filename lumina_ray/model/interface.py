"""The small interface that every model stands behind, MusicGen's part of it, and its delay pattern.

`AttributableModel` is what attribution needs of any music generator; `MusicModel` adds what only those have that
predict codes.

Shape legend: B = chunks, K = codebooks (or rows of latents), T = frames (50 per second for codes), S = T + 1
sequence steps, C = codebook size, D = model dimension.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.model.companion import Companions
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.statistics import MusicStatistics
from lumina_ray.model.tracked import TrackedTensor
from lumina_ray.vocabulary import Draws, Representation


@dataclass(frozen=True)
class Losses:
    """Loss of every number that a batch of chunks is written in.

    Attributes:
        values_BKT: float32: nats of a code, or the squared error of a latent; meaningless where not valid.
        valid_BKT: bool, which numbers count.
    """

    values_BKT: Tensor
    valid_BKT: Tensor

    def of(self, heard_BT: Tensor | None) -> Self:
        """Count only frames that are true in bool `[B, T]`; all where it is None."""
        return self if heard_BT is None else replace(self, valid_BKT=self.valid_BKT & heard_BT[:, None])


@dataclass(frozen=True)
class Prediction:
    """The language model's prediction of given codes, each value at the place of the code that it predicts.

    Attributes:
        logits_BKTC: float32; meaningless (never NaN) where not valid.
        hidden_BKTD: float32, the normed last hidden state from which the logits were made.
        valid_BKT: bool; false for padded frames and for codes that the delay pattern cannot predict, so that a
            500-frame chunk has 500 + 499 + 498 + 497 = 1994 valid targets.
    """

    logits_BKTC: Tensor
    hidden_BKTD: Tensor
    valid_BKT: Tensor

    def of(self, heard_BT: Tensor | None) -> Self:
        """Count only codes of frames that are true in bool `[B, T]`; all where it is None."""
        return self if heard_BT is None else replace(self, valid_BKT=self.valid_BKT & heard_BT[:, None])

    def losses(self, codes_BKT: Tensor) -> Losses:
        """Cross-entropy of every code, int64 `[B, K, T]`, that was teacher-forced."""
        logits_BKTC = self.logits_BKTC
        # Half precision is too coarse for a loss; float64 stays, for models that derivatives are checked on.
        logits_BKTC = logits_BKTC.to(torch.promote_types(logits_BKTC.dtype, torch.float32))
        nll = torch.nn.functional.cross_entropy(logits_BKTC.flatten(0, 2), codes_BKT.flatten(), reduction="none")
        return Losses(nll.view(codes_BKT.shape), self.valid_BKT)


@dataclass(frozen=True)
class SamplingSettings:
    """Settings for drawing codes from a model's predictions.

    Attributes:
        top_k: how many of a codebook's codes can be drawn: the most likely ones.
        temperature: divides the logits; less than 1 prefers likely codes.
        guidance: classifier-free guidance: how far logits go from those under no text (a condition of zeros) to those
            under the text and beyond. 1 is the text alone, and costs half as much as any other value.
    """

    top_k: int = 250
    temperature: float = 1.0
    guidance: float = 1.0


Step = Callable[[Tensor], Tensor]
"""Takes the next steps of a delayed sequence, int64 `[B, K, S]`, and predicts what follows them: logits `[B, K, C]`."""


class AttributableModel(Protocol):
    """A music generator that songs can be attributed to, in evaluation mode and under one fixed text.

    A kind of model differs in what it writes music down in, and in the loss of that. Everything else asks
    `representation`, or the specification that a fingerprint was made with.
    """

    name: str
    adapter: str
    weights_sha256: str
    device: torch.device
    n_layers: int
    draws: Draws | None
    """Random numbers that a loss is a mean over; None where it is not random."""
    folder: Path | None
    """The folder that it was loaded from; None where it is in memory only."""
    fisher: Fisher | None
    """Fisher information over its catalog; None until it was measured or read (`lumina_ray.model.fisher.fisher_of`)."""

    @property
    def representation(self) -> Representation:
        """Codes or latents: the form in which it writes music down."""
        ...

    @property
    def frame_rate_hz(self) -> float:
        """Frames of the representation in a second."""
        ...

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the model does not know, in their order."""
        ...

    @property
    def knows_words(self) -> bool:
        """Whether texts mean something to the model: one whose vocabulary is letters was trained under one text."""
        ...

    def encode(self, samples: np.ndarray) -> Tensor:
        """Encode float32 `[n]` mono samples at 32 kHz to codes (int64) or latents (float32), `[K, T]`, no gradient.

        They are on the model's device; T is the number of frames that have begun, `⌈seconds · frame_rate_hz⌉`.
        """
        ...

    def decode(self, codes_KT: Tensor) -> np.ndarray:
        """Decode codes or latents `[K, T]` to float32 `[n]` mono samples at 32 kHz."""
        ...

    def generate(
        self,
        duration_s: float,
        seed: int,
        *,
        text: str | None = None,
        guidance: float | None = None,
        prompt_KT: Tensor | None = None,
    ) -> np.ndarray:
        """Make up float32 `[n]` mono music at 32 kHz.

        Args:
            duration_s: length of what is made up, in seconds; a prompt comes on top.
            seed: everything that is drawn follows from it.
            text: what it is conditioned on; the fixed text, under which music is fingerprinted, where it is None.
            guidance: how strongly the text counts; the model's own where it is None.
            prompt_KT: codes or latents that the piece begins with and goes on from.

        Raises:
            UsageError: the text is too long, or the model knows none of its words; or the model cannot go on from a
                prompt.
        """
        ...

    def losses(self, codes_BKT: Tensor, n_frames: list[int], draws: Draws | None) -> Losses:
        """Loss of every code or latent of a batch of chunks.

        Args:
            codes_BKT: int64 codes or float32 latents, padded to one length.
            n_frames: number of real frames of each chunk; 0 for a row that only fills the batch.
            draws: what the loss is a mean over; None where it is not random.
        """
        ...

    def tracked(self, layer: int, tensor: TrackedTensor) -> tuple[nn.Parameter, ...]:
        """The parameters whose gradients, concatenated along dimension 0, are that tensor's gradient.

        One parameter where the library keeps query, key and value fused, three where it does not.

        Args:
            layer: counted from 0.
            tensor: one of `ROLES` of the model's representation.
        """
        ...

    def heads(self) -> tuple[nn.Parameter, ...]:
        """The output layers: K heads `[C, D]`, first codebook first, or those that make latents."""
        ...

    def others(self) -> tuple[nn.Parameter, ...]:
        """List what is neither tracked nor a head.

        For MusicGen these are embeddings, then the norms of each layer, then the last norm. A norm is its weight and
        its bias; a layer's norms are those of self-attention, cross-attention and the MLP. The order is one for all
        libraries.
        """
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Every parameter of the model but its codec's and text encoder's, so that all but tracked ones are frozen."""
        ...


class MusicModel(AttributableModel, Protocol):
    """A MusicGen: codec, language model and the fixed text condition."""

    dim: int
    n_codebooks: int
    codebook_size: int
    statistics: MusicStatistics
    """Statistics of the music that it learned from; `no_statistics` where nothing is known of it."""
    companions: Companions | None
    """None until it was measured or read (`lumina_ray.model.companion.companions_of`)."""
    sampling: SamplingSettings
    """The settings that the model comes with."""

    @property
    def condition(self) -> Tensor:
        """The encoded and projected condition text that every chunk attends to, float32 `[1, N, D]`."""
        ...

    def embed(self, text: str) -> Tensor:
        """Encode and project a text as `condition` is: float32 `[1, N, D]` on the model's device, no gradient.

        Raises:
            UsageError: the text is too long, or the model knows none of its words.
        """
        ...

    def stepping(self, conditions_BND: Tensor) -> AbstractContextManager[Step]:
        """Predict a sequence step by step: earlier steps are remembered until the context ends.

        Args:
            conditions_BND: float32, what each row attends to.
        """
        ...

    def codec_modules(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Top-level modules of the codec's encoder and of its decoder, each in the order in which they run."""
        ...

    def predict(self, codes_BKT: Tensor, n_frames: list[int]) -> Prediction:
        """Teacher-force int64 codes `[B, K, T]`, of which the first `n_frames[b]` frames of row b are real."""
        ...


def delay(codes_BKT: Tensor, pad_token: int) -> Tensor:
    """Delay-pattern input of shape `[B, K, S]`: column 0 is the pad token, codebook k is shifted right by k more.

    Column c of codebook k holds frame c − 1 − k; what would fall off the end is cut, as in audiocraft's
    `compute_predictions`. (Copet et al. 2023, "Simple and Controllable Music Generation", §2.2.)
    """
    _, K, T = codes_BKT.shape
    rows = [torch.nn.functional.pad(codes_BKT[:, k, : T - k], (1 + k, 0), value=pad_token) for k in range(K)]
    return torch.stack(rows, dim=1)


def undelay(values_BKSX: Tensor) -> Tensor:
    """Bring step-wise values `[B, K, S, X]` to the frames they predict, `[B, K, T, X]`.

    Step s predicts column s + 1, so frame t of codebook k is predicted at step t + k. What stands at frames past the
    last step means nothing; `valid_targets` leaves them out.
    """
    # Padding by negative amounts instead of slices: the derivative of a slice fills a tensor of the whole size.
    rows = [torch.nn.functional.pad(row_BSX, (0, 0, -k, k - 1)) for k, row_BSX in enumerate(values_BKSX.unbind(1))]
    return torch.stack(rows, dim=1)


def valid_targets(n_frames: list[int], n_codebooks: int, T: int, device: torch.device) -> Tensor:
    """Bool `[B, K, T]`: frame t of codebook k counts when step t + k comes before the row's true end.

    A chunk padded to T frames therefore has exactly the targets, and the inputs before them, of the chunk at its
    true length.
    """
    t_T = torch.arange(T, device=device)
    k_K1 = torch.arange(n_codebooks, device=device)[:, None]
    n_B11 = torch.tensor(n_frames, device=device)[:, None, None]
    return (t_T + k_K1)[None] < n_B11
