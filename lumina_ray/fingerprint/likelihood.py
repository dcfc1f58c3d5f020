"""Log-likelihood of a song's codes under one model, and under an audited model and its references side by side.

Shape legend: B = chunks, K = codebooks, T = frames, W = windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint.observed import Observed
from lumina_ray.model import MusicModel, open_music_model
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, SongCodes

WINDOW_S = 0.5
"""Length of the windows that a song is compared in."""
# Chunks in one forward pass. More chunks would need more memory for their logits and be no faster.
_CHUNKS = 8
_PROBE_S = 2.0
# Two copies of one codec agree on all codes but a few that lie between two entries. Two codecs agree on hardly any.
_SAME_CODES = 0.9


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of a song under one model, in nats per code.

    Attributes:
        mean: of all valid codes that hold sound.
        windows_W: float64, of the windows of each chunk, one chunk after the other; NaN where fewer than half of a
            window's codes are valid and hold sound.
    """

    mean: float
    windows_W: np.ndarray


def likelihood(model: MusicModel, song: SongCodes) -> Likelihood:
    """Compute how likely a model finds a song.

    Each chunk is seen alone, as fingerprints see it. The numbers depend only on the song's own codes, and not on other
    songs or their order.
    """
    length = max(1, round(WINDOW_S * model.frame_rate_hz))
    total, count, windows = 0.0, 0, [np.zeros(0)]
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
            losses = model.predict(codes, n_frames).of(heard).losses(codes)
            log_p_BKT = torch.where(losses.valid_BKT, -losses.values_BKT, 0)
            sum_BT = log_p_BKT.sum(dim=1).cpu().double().numpy()
            n_BT = losses.valid_BKT.sum(dim=1).cpu().numpy()
            total, count = total + float(sum_BT.sum()), count + int(n_BT.sum())
            for sum_T, n_T, T in zip(sum_BT, n_BT, n_frames, strict=True):
                starts = np.arange(0, T, length)
                sum_W, n_W = (np.add.reduceat(of_T[:T], starts) for of_T in (sum_T, n_T))
                enough_W = 2 * n_W >= length * model.n_codebooks
                windows.append(np.divide(sum_W, n_W, out=np.full(len(starts), np.nan), where=enough_W))
    return Likelihood(total / max(count, 1), np.concatenate(windows))


def observe(audited: Likelihood, references: Sequence[Likelihood]) -> Observed:
    """Compare what an audited model finds of a song with what references find of it."""
    beyond_W = audited.windows_W - np.mean([of.windows_W for of in references], axis=0)
    beyond_W = beyond_W[np.isfinite(beyond_W)]
    n = len(beyond_W)
    return Observed(
        audited.mean,
        tuple(of.mean for of in references),
        n,
        float(beyond_W.mean()) if n else float("nan"),
        float(beyond_W.var(ddof=1)) if n > 1 else 0.0,
    )


@dataclass(frozen=True)
class Panel:
    """An audited model, and reference models that never saw the audited model's catalog."""

    audited: MusicModel
    references: tuple[MusicModel, ...]

    @classmethod
    def open(cls, audited: str, references: Sequence[str], weights_sha256: str, device: str) -> Self:
        """Load all models.

        Args:
            audited: name of the audited model, as in `open_music_model`.
            references: names of the reference models, likewise.
            weights_sha256: hash of the weights that the audited model must have.
            device: torch device of all models, such as "cpu" or "cuda".

        Raises:
            ModelError: one of the models is not available, or predicts no codes.
            SpecificationMismatch: the audited model has other weights; or a reference has the audited model's weights,
                those of another reference, or another codec.
        """
        panel = cls(
            open_music_model(audited, device), tuple(open_music_model(reference, device) for reference in references)
        )
        check_panel(panel.audited, panel.references, weights_sha256)
        return panel

    def __call__(self, song: SongCodes) -> Observed:
        """Compare what the models find of a song."""
        return observe(likelihood(self.audited, song), [likelihood(model, song) for model in self.references])


def check_panel(audited: MusicModel, references: Sequence[MusicModel], weights_sha256: str) -> None:
    """Check that models can be compared on the codes of a store.

    Raises:
        SpecificationMismatch: they cannot; `Panel.open` lists the reasons.
    """
    if audited.weights_sha256 != weights_sha256:
        raise SpecificationMismatch(
            f"the store was made with weights {weights_sha256[:12]}, model {audited.name!r} has "
            f"{audited.weights_sha256[:12]}; pass the store's own model as --model"
        )
    known: dict[str, str] = {}
    for reference in references:
        if reference.weights_sha256 == weights_sha256:
            raise SpecificationMismatch(
                f"reference {reference.name!r} has the weights of the audited model itself ({weights_sha256[:12]}); "
                "pass a model that never saw the catalog"
            )
        if other := known.get(reference.weights_sha256):
            raise SpecificationMismatch(
                f"references {other!r} and {reference.name!r} have the same weights "
                f"({reference.weights_sha256[:12]}); pass each model once"
            )
        known[reference.weights_sha256] = reference.name
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
