"""How likely a model finds a song's codes, and that of two models side by side.

Shapes: B chunks, K codebooks, T frames.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from lumina_ray.audio import SAMPLE_RATE_HZ
from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint.codes import SongCodes
from lumina_ray.gradients import codebook_losses
from lumina_ray.model import MusicModel, open_model

# Together in a forward pass: more would need memory for their logits, and be no faster.
_CHUNKS = 8
_PROBE_S = 2.0
# One codec gives the same codes, but for a few that lie between two entries; another one gives hardly any of them.
_SAME_CODES = 0.9


def log_likelihood(model: MusicModel, song: SongCodes) -> float:
    """Mean log-likelihood of a song's valid codes, in nats per code, chunk by chunk as fingerprints see them.

    It depends on nothing but the song's own codes: not on its neighbours, and not on an order of songs.
    """
    total, count = 0.0, 0
    with torch.no_grad():
        for begin in range(0, len(song.chunks), _CHUNKS):
            chunks = song.chunks[begin : begin + _CHUNKS]
            n_frames = [chunk.shape[1] for chunk in chunks]
            codes_BKT = np.zeros((len(chunks), model.n_codebooks, max(n_frames)), np.int64)
            for b, chunk_KT in enumerate(chunks):
                codes_BKT[b, :, : n_frames[b]] = chunk_KT
            codes = torch.from_numpy(codes_BKT).to(model.device)
            prediction = model.predict(codes, n_frames)
            n_BK = prediction.valid_BKT.sum(dim=2)
            total += float((codebook_losses(prediction, codes).double() * n_BK).sum())
            count += int(n_BK.sum())
    return -total / max(count, 1)


@dataclass(frozen=True)
class Pair:
    """An audited model, and a reference that never saw its catalog."""

    audited: MusicModel
    reference: MusicModel

    @classmethod
    def open(cls, audited: str, reference: str, weights_sha256: str, device: str) -> Self:
        """Load both.

        Args:
            audited, reference: names as in `open_model`.
            weights_sha256: that the audited model must have.

        Raises:
            ModelError: one of them is not at hand.
            SpecificationMismatch: the audited model has other weights, the reference the same ones, or another codec.
        """
        pair = cls(open_model(audited, device), open_model(reference, device))
        check_pair(pair.audited, pair.reference, weights_sha256)
        return pair

    def __call__(self, song: SongCodes) -> tuple[float, float]:
        """The song's log-likelihood under the audited model and under the reference, in nats per code."""
        return log_likelihood(self.audited, song), log_likelihood(self.reference, song)


def check_pair(audited: MusicModel, reference: MusicModel, weights_sha256: str) -> None:
    """Check that two models may be compared over the codes of a store.

    Raises:
        SpecificationMismatch: see `Pair.open`.
    """
    if audited.weights_sha256 != weights_sha256:
        raise SpecificationMismatch(
            f"the store was made with weights {weights_sha256[:12]}, model {audited.name!r} has "
            f"{audited.weights_sha256[:12]}; pass the store's own model as --model"
        )
    if reference.weights_sha256 == weights_sha256:
        raise SpecificationMismatch(
            f"reference {reference.name!r} has the weights of the audited model itself ({weights_sha256[:12]}); "
            "pass a model that never saw the catalog"
        )
    shapes = [(model.n_codebooks, model.codebook_size, model.frame_rate_hz) for model in (audited, reference)]
    if shapes[0] != shapes[1]:
        raise SpecificationMismatch(
            f"reference {reference.name!r} has another codec than {audited.name!r} (codebooks, their size and frame "
            f"rate: {shapes[1]}, not {shapes[0]})"
        )
    if not _same_codec(audited, reference):
        raise SpecificationMismatch(
            f"reference {reference.name!r} has another codec than {audited.name!r}: the same sound becomes other "
            "codes; pass a model that shares the audited model's codec"
        )


def _same_codec(one: MusicModel, other: MusicModel) -> bool:
    # By what they do: the libraries' names for a codec's weights differ.
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(_PROBE_S * SAMPLE_RATE_HZ)).astype(np.float32)
    codes = [model.encode(noise).cpu() for model in (one, other)]
    return codes[0].shape == codes[1].shape and float((codes[0] == codes[1]).float().mean()) >= _SAME_CODES
