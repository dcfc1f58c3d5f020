"""Log-likelihood of a song's codes under one model, and under two models side by side.

Shape legend: B = chunks, K = codebooks, T = frames.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from lumina_ray.errors import SpecificationMismatch
from lumina_ray.gradients import codebook_losses
from lumina_ray.model import MusicModel, open_music_model
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, SongCodes

# Chunks in one forward pass. More chunks would need more memory for their logits and be no faster.
_CHUNKS = 8
_PROBE_S = 2.0
# Two copies of one codec agree on all codes but a few that lie between two entries. Two codecs agree on hardly any.
_SAME_CODES = 0.9


def log_likelihood(model: MusicModel, song: SongCodes) -> float:
    """Mean log-likelihood of a song's valid codes that hold sound, in nats per code.

    Each chunk is seen alone, as fingerprints see it. The number depends only on the song's own codes, and not on other
    songs or their order.
    """
    total, count = 0.0, 0
    with torch.no_grad():
        for begin in range(0, len(song.chunks), _CHUNKS):
            chunks = song.chunks[begin : begin + _CHUNKS]
            n_frames = [chunk.shape[1] for chunk in chunks]
            codes_BKT = np.zeros((len(chunks), model.n_codebooks, max(n_frames)), np.int64)
            heard_BT = np.zeros((len(chunks), max(n_frames)), bool)
            for b, chunk_KT in enumerate(chunks):
                codes_BKT[b, :, : n_frames[b]] = chunk_KT
                heard_BT[b, : n_frames[b]] = song.heard[begin + b]
            codes, heard = (torch.from_numpy(array).to(model.device) for array in (codes_BKT, heard_BT))
            prediction = model.predict(codes, n_frames).of(heard)
            n_BK = prediction.valid_BKT.sum(dim=2)
            total += float((codebook_losses(prediction, codes).double() * n_BK).sum())
            count += int(n_BK.sum())
    return -total / max(count, 1)


@dataclass(frozen=True)
class Pair:
    """An audited model, and a reference model that never saw the audited model's catalog."""

    audited: MusicModel
    reference: MusicModel

    @classmethod
    def open(cls, audited: str, reference: str, weights_sha256: str, device: str) -> Self:
        """Load both models.

        Args:
            audited: name of the audited model, as in `open_music_model`.
            reference: name of the reference model, as in `open_music_model`.
            weights_sha256: hash of the weights that the audited model must have.
            device: torch device of both models, such as "cpu" or "cuda".

        Raises:
            ModelError: one of the models is not available, or predicts no codes.
            SpecificationMismatch: the audited model has other weights; or the reference has the audited model's weights
                or another codec.
        """
        pair = cls(open_music_model(audited, device), open_music_model(reference, device))
        check_pair(pair.audited, pair.reference, weights_sha256)
        return pair

    def __call__(self, song: SongCodes) -> tuple[float, float]:
        """The song's log-likelihood under the audited model and under the reference, in nats per code."""
        return log_likelihood(self.audited, song), log_likelihood(self.reference, song)


def check_pair(audited: MusicModel, reference: MusicModel, weights_sha256: str) -> None:
    """Check that two models can be compared on the codes of a store.

    Raises:
        SpecificationMismatch: they cannot; `Pair.open` lists the reasons.
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
    check_codec(audited, reference, "reference")


def check_codec(audited: MusicModel, other: MusicModel, role: str) -> None:
    """Check that two models hear the same codes.

    Args:
        role: what the other model is to the audited one, for the error.

    Raises:
        SpecificationMismatch: they have different codecs.
    """
    shapes = [(model.n_codebooks, model.codebook_size, model.frame_rate_hz) for model in (audited, other)]
    if shapes[0] != shapes[1]:
        raise SpecificationMismatch(
            f"{role} {other.name!r} has another codec than {audited.name!r} (codebooks, their size and frame "
            f"rate: {shapes[1]}, not {shapes[0]})"
        )
    if not _same_codec(audited, other):
        raise SpecificationMismatch(
            f"{role} {other.name!r} has another codec than {audited.name!r}: the same sound becomes other "
            "codes; pass a model that shares the audited model's codec"
        )


def _same_codec(one: MusicModel, other: MusicModel) -> bool:
    # Codecs are compared by their codes, because libraries give different names to a codec's weights.
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(_PROBE_S * SAMPLE_RATE_HZ)).astype(np.float32)
    codes = [model.encode(noise).cpu() for model in (one, other)]
    return codes[0].shape == codes[1].shape and float((codes[0] == codes[1]).float().mean()) >= _SAME_CODES
