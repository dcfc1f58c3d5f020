"""Effects on one catalog, as an index keeps them: what leaving songs out of the training costs a clip, in nats.

They are fitted on retrained models by `lumina effects fit`, and hold for one model, fingerprint, catalog and kind of
query alone, and for one song or a group of up to a tenth of the catalog: leaving out more costs more.

    z = (a song's similarity to the clip − mean over controls) / their standard deviation, in each channel
    effect of leaving songs out = b · Σ (max(0, z_P) / s_P + max(0, z_M) / s_M)

N = songs of the catalog, n = songs of a group, R = reference songs.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.special import gammaincinv, ndtri

from lumina_ray.calibration.standard import SongNoise
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.files import read_file
from lumina_ray.vocabulary import CHANNELS, Channel

EFFECTS_FILE = "effects.json"
FIT_VERSION: Literal[4] = 4
"""Fits before 4 said of songs that no score tells that they have no effect; before 3, b was too large for a catalog."""
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How files are checked: every number is finite, and nothing is in a file that is not known."""
LEVEL = 0.95
"""Probability that an interval holds the truth."""
# A gamma distribution of this shape is a point, to three digits.
_MAX_SHAPE = 1e6


@dataclass(frozen=True)
class Scatter:
    """How far true effects lie about predicted ones.

    Attributes:
        song: standard deviation of a single song's effect about its prediction, as a part of it.
        query: the same of all effects on one query together.
        hidden: standard deviation of what no score tells of a single song's effect, in nats per code.
    """

    __pydantic_config__ = STRICT

    song: float
    query: float
    hidden: float

    def __post_init__(self) -> None:
        if min(self.song, self.query, self.hidden) < 0:
            raise ValueError("scatter must not be below 0")

    def interval(
        self, total: ArrayLike, squares: ArrayLike, n_songs: ArrayLike, noise_variance: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute the central 95 % of the effect of leaving groups of songs out, in nats per code.

        What scatters as a part of the prediction is gamma distributed, and what is hidden is normal, on either side of
        0. The distances of their bounds from the prediction are added as independent ones, by their squares.

        Args:
            total: sum of the predicted effects of a group's songs on one query.
            squares: sum of their squares.
            n_songs: how many there are.
            noise_variance: of the measurement, where the interval is to hold what retraining measures.
        """
        total = np.asarray(total, dtype=np.float64)
        square = total**2
        variance = self.song**2 * np.asarray(squares) + self.query**2 * square
        # Without a mean any shape will do, as the scale is then 0.
        shape = np.where(square > 0, square / np.maximum(variance, np.maximum(square, 1e-300) / _MAX_SHAPE), 1.0)
        low, high = (gammaincinv(shape, level) * total / shape for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        normal = ndtri((1 + LEVEL) / 2) ** 2 * (np.asarray(n_songs) * self.hidden**2 + noise_variance)
        # A distribution with so long a tail that its upper bound is below its mean has the mean for its bound.
        above = np.maximum(high - total, 0)
        return total - np.sqrt((total - low) ** 2 + normal), total + np.sqrt(above**2 + normal)


class _Frozen(BaseModel):
    # The file of a fit says more than an answer needs.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Estimate(_Frozen):
    value: float
    low: float
    high: float


class _Fitted(_Frozen):
    b: _Estimate
    scales: dict[Channel, float]
    scatter: Scatter
    noise: float = Field(ge=0)
    n_models: int
    n_queries: int


class _Check(_Frozen):
    removals: str
    r2: _Estimate
    placebo_r2: _Estimate


class _OfKind(_Frozen):
    fitted: _Fitted
    checks: tuple[_Check, ...]


class _Fit(_Frozen):
    method: str
    weights_sha256: str
    specification_sha256: str
    catalog_sha256: str
    kinds: dict[str, _OfKind]


class SongEffects(BaseModel):
    """Worth of similarities in nats, for one kind of query."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    query_kind: str = Field(description="Kind of query that it was fitted on.")
    shown: bool = Field(
        description="Whether a clip's own scores predict what retraining does to it better than those of other clips "
        "do, on queries that the fit never saw. If not, effects are of the model's output in general."
    )
    fit_sha256: str = Field(description="sha256 of the file that `lumina effects fit` wrote.")
    b: float = Field(gt=0)
    scales: dict[Channel, float]
    scatter: Scatter
    noise: float = Field(
        ge=0, description="By how much an effect differs if models are trained again, in nats per code."
    )
    n_models: int
    n_queries: int

    def effects(self, z: Mapping[Channel, np.ndarray]) -> dict[Channel, np.ndarray]:
        """Compute the effect of leaving out each song, in nats per code, as the channels' parts of it, `[N]` each."""
        return {c: self.b * np.maximum(z[c], 0) / self.scales[c] for c in CHANNELS if c in self.scales}


def z_of(similarity_N: np.ndarray, noise: SongNoise, reference: SongNoise) -> np.ndarray:
    """Compute how far each similarity stands out of those of controls to the same song, float64 `[N]`.

    Args:
        noise: of these songs.
        reference: of the catalog's reference songs, whose median variance was added to each song's.
    """
    typical = np.median(reference.spread**2) / 2
    return (similarity_N - noise.mean) / np.sqrt(np.maximum(noise.spread**2 - typical, 1e-12))


def catalog_sha256(codes_sha256: Iterable[str]) -> str:
    """Hash the music of a catalog, given by the hashes of its songs' codes, in whatever order."""
    return hashlib.sha256("\n".join(sorted(codes_sha256)).encode()).hexdigest()


def read_fit(
    file: Path, query_kind: str | None, *, weights: str, specification: str, fingerprint: str, catalog: str
) -> SongEffects:
    """Read what `lumina effects fit` wrote, for one kind of query and an index.

    Args:
        query_kind: may be left out where the file has one kind.
        weights, specification, catalog: hashes of the index's, `catalog` by `catalog_sha256`.
        fingerprint: its kind of fingerprint, which is the name of the method that compares it.

    Raises:
        StoreError: no such file, damaged, or of another version.
        SpecificationMismatch: it was fitted for another model, method, specification or catalog.
        UsageError: the file has no such kind of query, or several and none is named.
    """
    try:
        data = read_file(file)
        found = json.loads(data)
        version = found.get("version")
        if version != FIT_VERSION:
            raise StoreError(f"{file}: effects of version {version}, this software reads {FIT_VERSION}; fit them again")
        fit = _Fit.model_validate_json(data)
    except (OSError, ValueError, AttributeError) as error:
        told = str(error).splitlines()[0]
        raise StoreError(f"{file}: no effects ({told}); `lumina effects fit` makes them") from error
    ours = {"method": fingerprint, "model": weights, "specification": specification, "catalog": catalog}
    theirs = {
        "method": fit.method,
        "model": fit.weights_sha256,
        "specification": fit.specification_sha256,
        "catalog": fit.catalog_sha256,
    }
    if other := next((name for name in ours if ours[name] != theirs[name]), None):
        raise SpecificationMismatch(
            f"{file}: effects were fitted for {other} {theirs[other][:12]}, the index has {ours[other][:12]}; effects "
            "hold for one model, fingerprint and catalog alone: fit them on a bank of these"
        )
    kinds = ", ".join(fit.kinds)
    if query_kind is None and len(fit.kinds) != 1:
        raise UsageError(f"{file} has effects on several kinds of queries ({kinds}): name one with --effects-kind")
    kind = query_kind or kinds
    if kind not in fit.kinds:
        raise UsageError(f"{file} has no effects on queries of kind {kind!r}; it has {kinds}")
    of, checks = fit.kinds[kind].fitted, fit.kinds[kind].checks
    halves = [check for check in checks if check.removals == "half"]
    return SongEffects(
        query_kind=kind,
        # Scores of other queries, for the same losses, are the placebo.
        shown=any(check.r2.low > max(check.placebo_r2.high, 0) for check in halves),
        fit_sha256=hashlib.sha256(data).hexdigest(),
        b=of.b.value,
        scales=of.scales,
        scatter=of.scatter,
        noise=of.noise,
        n_models=of.n_models,
        n_queries=of.n_queries,
    )


def write_effects(effects: SongEffects, file: Path) -> None:
    """Write effects for an index."""
    values = effects.model_dump(mode="json")
    file.write_text(json.dumps(values, sort_keys=True, indent=1) + "\n", encoding="utf-8")


def read_effects(file: Path) -> SongEffects:
    """Read what `write_effects` wrote.

    Raises:
        StoreError: it is no such file.
    """
    try:
        return SongEffects.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise StoreError(f"{file} is damaged: build the index again") from error
