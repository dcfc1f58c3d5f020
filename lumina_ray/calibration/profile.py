"""Is a clip an output of a model? Its likeness to the whole catalog against that of pieces which the model made up.

A clip's profile is how far each reference song stands out for it (`SongNoise.excess`), in all channels, one after the
other. A model's profile is the mean of those of its own pieces. The statistic is the cosine of both. Each control is
put through the same, left out of the noise that it is measured by. So the fraction of tracks, controls and clip, that
are at least as like the model's pieces is a p-value (conformal: right for a clip exchangeable with the controls).

Music that a model made up resembles other music that it made up, and by how much differs between models. So a profile
knows its **power**: the part of the model's own pieces, each left out of the mean, that the test finds. A clip that it
does not find may be the model's all the same.

C = controls, R = reference songs, n = pieces, D = fingerprint dimensions.
"""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lumina_ray.calibration.controls import ALPHA
from lumina_ray.calibration.standard import Reference, excess_of_controls
from lumina_ray.errors import UsageError
from lumina_ray.vocabulary import CHANNELS, Channel

MIN_PIECES = 8
"""Pieces that a profile takes at least; the power of fewer would be a guess."""


class ModelProfile(BaseModel):
    """The mean profile of pieces that a model made up, on one catalog and by its controls."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(description="The model's name, as it was given.")
    audited: bool = Field(description="Whether it is the model that the catalog was fingerprinted with.")
    pieces_sha256: str = Field(description="sha256 of ids, codes and vectors of the store of its pieces.")
    n_pieces: int = Field(description="Distinct pieces.")
    mean: dict[Channel, tuple[float, ...]] = Field(
        description="Per channel the mean excess of each reference song over the pieces, in the catalog's order."
    )
    controls: tuple[float, ...] = Field(description="Likeness of each control to the mean, descending.")
    power: float = Field(
        description=f"Part of the pieces that have p ≤ {ALPHA:g}, each left out of the mean that it is measured by."
    )

    def likeness(self, excess: Mapping[Channel, np.ndarray]) -> float:
        """Compute the cosine of a clip's profile and the model's.

        Args:
            excess: of the reference songs for the clip, float64 `[R]`, in each of the profile's channels.
        """
        channels = [c for c in CHANNELS if c in self.mean]
        mean = np.concatenate([np.array(self.mean[c]) for c in channels])
        return float(_cosines(np.concatenate([excess[c] for c in channels])[None], mean)[0])

    def p_value(self, likeness: float) -> float:
        """Give the fraction of tracks, the controls and a clip, that are at least so like the model's pieces."""
        return float(1 + (np.array(self.controls) >= likeness).sum()) / (1 + len(self.controls))


def profile_of(
    model: str,
    pieces: Mapping[Channel, np.ndarray],
    controls: Mapping[Channel, np.ndarray],
    references: Mapping[Channel, Reference],
    pieces_sha256: str,
    *,
    audited: bool,
) -> ModelProfile:
    """Make the profile of a model.

    Args:
        pieces: channel → float32 `[n, D]` unit vectors, of distinct pieces.
        controls: channel → float32 `[C, D]` unit vectors, those that the noise of `references` was measured with.

    Raises:
        UsageError: fewer pieces than `MIN_PIECES`.
    """
    n = len(next(iter(pieces.values())))
    if n < MIN_PIECES:
        raise UsageError(
            f"{n} distinct pieces by {model} are too few for its profile: at least {MIN_PIECES} are needed"
        )
    of_pieces = {
        c: reference.noise.excess(pieces[c].astype(np.float64) @ reference.vectors.T)
        for c, reference in references.items()
    }
    of_controls_CR = np.concatenate(
        [excess_of_controls(controls[c].astype(np.float64) @ r.vectors.T) for c, r in references.items()], axis=1
    )
    pieces_nR = np.concatenate(list(of_pieces.values()), axis=1)
    found = 0
    for i in range(n):
        others = np.delete(pieces_nR, i, axis=0).mean(axis=0)
        at_least = (_cosines(of_controls_CR, others) >= _cosines(pieces_nR[i][None], others)).sum()
        found += (1 + at_least) / (1 + len(of_controls_CR)) <= ALPHA
    likeness_C = np.sort(_cosines(of_controls_CR, pieces_nR.mean(axis=0)))[::-1]
    return ModelProfile(
        model=model,
        audited=audited,
        pieces_sha256=pieces_sha256,
        n_pieces=n,
        mean={c: tuple(excess_nR.mean(axis=0).tolist()) for c, excess_nR in of_pieces.items()},
        controls=tuple(likeness_C.tolist()),
        power=float(found / n),
    )


def _cosines(profiles_nR: np.ndarray, mean_R: np.ndarray) -> np.ndarray:
    lengths_n = np.linalg.norm(profiles_nR, axis=1) * np.linalg.norm(mean_R)
    # Row by row, so that a clip's number does not depend on what else is compared.
    inner_n = np.einsum("nr,r->n", profiles_nR, mean_R)
    return np.divide(inner_n, lengths_n, out=np.zeros(len(inner_n)), where=lengths_n > 0)
