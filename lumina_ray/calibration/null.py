"""The null: how alike unrelated music is to the songs of a catalog, and the gate that is made from it.

C = controls, N = catalog songs, D = fingerprint dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lumina_ray.calibration.controls import (
    ALPHA,
    Guarantee,
    KindOfControls,
    Unlikeness,
    bar_rank,
    controls_needed,
    kinds_of_controls,
    unlikeness,
)
from lumina_ray.calibration.gate import Gate, gate_of
from lumina_ray.calibration.numerics import use_one_blas_thread
from lumina_ray.calibration.standard import SongNoise, reference_songs, score_controls, song_noise
from lumina_ray.calibration.vectors import blocks, catalog_centre, check_unit_rows
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.vocabulary import Channel

# 1 / (C + 1) ≤ ALPHA needs 19; fewer could never qualify anything.
MIN_CONTROLS = 20
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# Where the published rules qualify a song: v8's three levels, and v7's confidence erf(z/√2) = 95 %.
_PUBLISHED_Z = (1.0, 1.959964, 2.0, 3.0)


class ChannelCalibration(BaseModel):
    """The similarities of controls to songs in one channel, inner products of unit vectors. Lists are descending."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n_controls: int = Field(description="Control tracks, C.")
    n_songs: int = Field(description="Catalog songs searched, N.")
    dims: int = Field(description="Fingerprint dimensions, D.")
    mean: float = Field(description="μ of all C × N similarities.")
    std: float = Field(description="σ of all C × N similarities (population form).")
    similarity_quantiles: dict[str, float] = Field(description="Quantiles of all C × N similarities.")
    exceedance: dict[str, float] = Field(
        description="z → fraction of all C × N pairs, unrelated by construction, at or above μ + zσ."
    )
    control_maxima_similarity: tuple[float, ...] = Field(description="Each control's largest similarity.")
    control_means: tuple[float, ...] = Field(description="Each control's mean similarity to the catalog.")

    def z(self, similarity: np.ndarray) -> np.ndarray:
        """The published `(s − μ) / σ`."""
        return (np.asarray(similarity, dtype=np.float64) - self.mean) / self.std

    def bulk_p(self, mean_similarity: float) -> float:
        """Two-sided: is the query's mean similarity to the whole catalog one that a control could have?"""
        means = np.array(self.control_means)
        tail = min((means >= mean_similarity).sum(), (means <= mean_similarity).sum())
        return float(min(1.0, 2 * (1 + tail) / (self.n_controls + 1)))


@dataclass(frozen=True)
class CatalogNoise:
    """All that controls say of a catalog.

    Attributes:
        channels: the similarities of each channel.
        gates: by the channels of a query, joined: `P`, `M` and `PM`, as far as the catalog has them.
        songs: the noise of each song, by channel.
        reference_rows: rows of the reference songs, int64 `[R]`.
        kinds: false alarms by kind of controls.
        unlike: whether controls can be told from songs, by channel.
    """

    channels: dict[Channel, ChannelCalibration]
    gates: dict[str, Gate]
    songs: dict[Channel, SongNoise]
    reference_rows: np.ndarray
    kinds: tuple[KindOfControls, ...]
    unlike: dict[Channel, Unlikeness]


def calibrate(
    catalog: Mapping[Channel, np.ndarray],
    controls: Mapping[Channel, np.ndarray],
    order_N: np.ndarray | None = None,
    guarantee: Guarantee = "mean",
    kinds: Sequence[str] | None = None,
) -> CatalogNoise:
    """Measure the noise between controls and catalog.

    Args:
        catalog: channel → float32 `[N, D]` unit vectors.
        controls: channel → float32 `[C, D]` unit vectors, of music outside the catalog.
        order_N: rows in the order in which reference songs are looked for among them; as they are by default.
        guarantee: what the bar promises of unrelated tracks.
        kinds: of each control; all are of one by default.

    Raises:
        UsageError: too few controls.
        StoreError: vectors that are not finite unit vectors, or controls that are all equally similar to all songs.
        SpecificationMismatch: the two have different dimensions.
    """
    use_one_blas_thread()
    for channel in catalog:
        _check(catalog[channel], controls[channel])
    n_controls = len(next(iter(controls.values())))
    check_enough(n_controls, guarantee)
    n = len(next(iter(catalog.values())))
    reference_R = reference_songs(catalog, np.arange(n) if order_N is None else order_N)
    channels: dict[Channel, ChannelCalibration] = {}
    songs: dict[Channel, SongNoise] = {}
    scores: dict[Channel, np.ndarray] = {}
    for channel, songs_ND in catalog.items():
        similarity_CN = _similarities(songs_ND, controls[channel])
        channels[channel] = _channel(similarity_CN, controls[channel], catalog_centre(songs_ND))
        songs[channel] = song_noise(similarity_CN, reference_R)
        # In place: of ten million songs and fifty controls, each such matrix is 4 GB.
        score_controls(similarity_CN, reference_R)
        scores[channel] = similarity_CN
    joint_CN = joint_scores(list(scores.values()))
    found = kinds_of_controls(joint_CN.max(axis=1), kinds or [""] * n_controls, ALPHA, guarantee)
    gates = {"".join(scores): gate_of(joint_CN, guarantee)}
    gates |= {channel: gate_of(score_CN, guarantee) for channel, score_CN in scores.items() if channel not in gates}
    unlike = {
        c: unlikeness(songs_ND[reference_R].astype(np.float64), controls[c].astype(np.float64))
        for c, songs_ND in catalog.items()
    }
    return CatalogNoise(channels, gates, songs, reference_R, found, unlike)


def check_enough(n_controls: int, guarantee: Guarantee) -> None:
    """Check that there are controls enough for a guarantee.

    Raises:
        UsageError: there are not; says how many it takes.
    """
    if n_controls < MIN_CONTROLS:
        raise UsageError(
            f"{n_controls} control tracks are too few: at least {MIN_CONTROLS} distinct ones are needed for a "
            f"p-value of {ALPHA} (50 are recommended)"
        )
    if bar_rank(n_controls, ALPHA, guarantee) < 1:
        takes = ", ".join(f"{controls_needed(k, ALPHA, guarantee)} with {k}" for k in (1, 2, 5))
        raise UsageError(
            f"{n_controls} control tracks are too few for the guarantee {guarantee!r}: it takes {takes} above the bar; "
            "the more there are, the lower the bar. Add controls, or choose the guarantee 'mean'"
        )


def joint_scores(of_channels: list[np.ndarray]) -> np.ndarray:
    """Compute the scores that the gate judges: the mean over channels, of arrays of one shape."""
    joint = of_channels[0].copy()
    for other in of_channels[1:]:
        joint += other
    joint /= len(of_channels)
    return joint


def _check(catalog_ND: np.ndarray, controls_CD: np.ndarray) -> None:
    check_unit_rows(catalog_ND, "catalog")
    check_unit_rows(controls_CD, "controls")
    if catalog_ND.shape[1] != controls_CD.shape[1]:
        raise SpecificationMismatch(
            f"catalog vectors have {catalog_ND.shape[1]} dimensions and control vectors {controls_CD.shape[1]}"
        )


def _similarities(catalog_ND: np.ndarray, controls_CD: np.ndarray) -> np.ndarray:
    similarity_CN = np.empty((len(controls_CD), len(catalog_ND)))
    controls = controls_CD.astype(np.float64)
    for block in blocks(len(catalog_ND)):
        similarity_CN[:, block] = controls @ catalog_ND[block].astype(np.float64).T
    return similarity_CN


def _channel(similarity_CN: np.ndarray, controls_CD: np.ndarray, centre_D: np.ndarray) -> ChannelCalibration:
    mean, std = float(similarity_CN.mean()), float(similarity_CN.std())
    if std < 1e-9:
        raise StoreError("every control is equally similar to every song: such fingerprints cannot tell songs apart")
    means_C = np.einsum("cd,d->c", controls_CD.astype(np.float64), centre_D)
    return ChannelCalibration(
        n_controls=len(similarity_CN),
        n_songs=similarity_CN.shape[1],
        dims=len(centre_D),
        mean=mean,
        std=std,
        similarity_quantiles={f"{q:g}": float(np.quantile(similarity_CN, q)) for q in _QUANTILES},
        exceedance={f"{z:g}": float((similarity_CN >= mean + z * std).mean()) for z in _PUBLISHED_Z},
        control_maxima_similarity=tuple(np.sort(similarity_CN.max(axis=1))[::-1].tolist()),
        control_means=tuple(np.sort(means_C)[::-1].tolist()),
    )
