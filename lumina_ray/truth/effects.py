"""Effects in nats: what leaving a song out of the training costs a query, told by its scores.

A score orders songs. A fit on retrained models gives it a unit: how much the query's loss rises, in nats per code, when
the song is left out. Controls say what a score of nothing is; models without a tenth of the catalog what scores are
worth:

    z = (score of a song − mean over controls) / their standard deviation, for each song and channel
    f = max(0, z_P) / s_P + max(0, z_M) / s_M
    effect of leaving songs out = b · Σ f

A single song's effect scatters about that, and all effects on one query scatter together. Both are told beside b, by
models of halves of the catalog, where scores explain most. What no score tells of a song's effect, of either sign, is
told by models that lack fewest songs. b itself is not that of halves: a song is worth two to three
times as much where half of the others are missing. So it holds for one song, and for groups of up to a tenth of the
catalog; leaving out more costs more than b says.

Shape legend: Q queries, N songs of the catalog, C controls, R retrained models.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from lumina_ray.calibration import MIN_CONTROLS
from lumina_ray.calibration.effects import STRICT, Scatter
from lumina_ray.errors import NumericsError, UsageError
from lumina_ray.truth.measures import Estimate, bootstrap
from lumina_ray.vocabulary import Channel

MIN_MODELS = 8
"""Retrained models that a fit takes at least: each half of them must tell b by itself."""
MIN_QUERIES = 4
"""Queries of a kind that a fit takes at least; fewer say nothing of how queries differ."""
FOLDS = (slice(0, None, 2), slice(1, None, 2))
"""The two halves of the models: what one is judged by is fitted on the other."""
# Weights of the fit of scatter depend on its result; it changes by less than a hundredth after these.
_ROUNDS = 4


@dataclass(frozen=True)
class Retrained:
    """Losses of some queries under retrained models.

    Attributes:
        kept_RN: bool, the catalog's songs that each model was trained on.
        losses_RQ: float64, in nats per code.
    """

    kept_RN: np.ndarray
    losses_RQ: np.ndarray

    def __getitem__(self, models: np.ndarray | slice) -> "Retrained":
        return Retrained(self.kept_RN[models], self.losses_RQ[models])


@dataclass(frozen=True)
class EffectMap:
    """From scores of one kind of query to nats.

    Attributes:
        b: nats per code for a unit of f, of songs left out of the whole catalog. Its interval is over queries and
            retrained models, both drawn again.
        half_b: the same in a catalog of which half is missing, by models of halves.
        folds: `half_b` by the models of even number alone, and by those of odd number: whoever judges a model of a half
            takes the other.
        scales: s of each channel: the root mean square of max(0, z) over the queries and songs of the fit.
        scatter: of true effects about predicted ones.
        noise: standard deviation of an effect when its models are trained again from another seed, in nats per code.
        n_models, n_queries: that b was fitted on.
    """

    __pydantic_config__ = STRICT

    b: Estimate
    half_b: Estimate
    folds: tuple[float, float]
    scales: dict[Channel, float]
    scatter: Scatter
    noise: float
    n_models: int
    n_queries: int

    def __post_init__(self) -> None:
        if min(self.b.value, self.half_b.value) <= 0 or not self.scales or min(self.scales.values()) <= 0:
            raise ValueError("b and every scale must be above 0")
        if self.noise < 0:
            raise ValueError("noise must not be below 0")

    def strengths(self, z: Mapping[Channel, np.ndarray]) -> np.ndarray:
        """f of every song for every query, float64 `[Q, N]`, from `z_scores` of each channel.

        Raises:
            UsageError: other channels than those of the fit.
        """
        if set(z) != set(self.scales):
            raise UsageError(
                f"effects were fitted on the channels {', '.join(self.scales)}, and scores are of {', '.join(z)}"
            )
        return _strengths(z, self.scales)

    def effects(self, z: Mapping[Channel, np.ndarray]) -> np.ndarray:
        """By how many nats per code leaving each song out raises the loss of each query, float64 `[Q, N]`."""
        return self.b.value * self.strengths(z)


def z_scores(scores_QN: np.ndarray, controls_CN: np.ndarray) -> np.ndarray:
    """How far each score stands out of what controls get from the same song, float64 `[Q, N]`.

    A song's mean similarity to the catalog, which reports take off, cancels out.

    Args:
        controls_CN: the score of every song for every control, by the same method and channel.

    Raises:
        UsageError: fewer than `MIN_CONTROLS` controls, or another number of songs.
        NumericsError: scores that are not finite, or a song that all controls score alike.
    """
    if len(controls_CN) < MIN_CONTROLS:
        raise UsageError(f"{len(controls_CN)} controls cannot say what a score of nothing is; {MIN_CONTROLS} can")
    if scores_QN.shape[1] != controls_CN.shape[1]:
        raise UsageError(f"scores are of {scores_QN.shape[1]} songs, and controls' of {controls_CN.shape[1]}")
    if not (np.isfinite(scores_QN).all() and np.isfinite(controls_CN).all()):
        raise NumericsError("scores that are not finite have no effects; make the fingerprints again")
    spread_N = controls_CN.std(axis=0, ddof=1)
    if not spread_N.all():
        raise NumericsError(f"all controls score song {int(spread_N.argmin())} alike; use different music as controls")
    return (scores_QN - controls_CN.mean(axis=0)) / spread_N


def retraining_noise(differences: Mapping[Hashable, np.ndarray]) -> float:
    """Standard deviation of a loss when a model is trained again on the same songs from another seed, in nats per code.

    What all models of a group gain from the other seed is not noise between them, and is taken off. So it is that of an
    effect too, whose two models have one seed.

    Args:
        differences: by group of trainings, float64 `[R, Q]`: losses from another seed minus those from the first.

    Raises:
        UsageError: no group has two models.
    """
    degrees = sum(len(one_RQ) - 1 for one_RQ in differences.values())
    if degrees < 1:
        raise UsageError(
            "no two models of a group were trained again from another seed: scatter cannot be told from noise; build a "
            "bank with repeats"
        )
    squares_Q = sum(((one_RQ - one_RQ.mean(axis=0)) ** 2).sum(axis=0) for one_RQ in differences.values())
    return float(np.sqrt(np.mean(squares_Q) / degrees / 2))


@dataclass(frozen=True)
class Measured:
    """Models of one group, and how far a loss of theirs is noise.

    Attributes:
        models: retrained without some songs.
        noise: from `retraining_noise`, of the same queries.
    """

    models: Retrained
    noise: float


def fit_map(z: Mapping[Channel, np.ndarray], halves: Measured, tenths: Measured, fewest: Measured) -> EffectMap:
    """Learn what scores are worth in nats, by least squares.

    A model's loss differs from the mean of all models of its group by −b · Σ f over the songs that it was trained on.

    Args:
        z: `[Q, N]` of each channel.
        halves: models of random halves of the catalog: they tell scatter.
        tenths: models of the catalog without random tenths: they tell b.
        fewest: models that lack fewest songs, single ones if there are such: they tell what is hidden.

    Raises:
        UsageError: fewer than `MIN_MODELS` models of a group or `MIN_QUERIES` queries, or scores that do not go with
            losses: b would not be above 0.
        NumericsError: no score of a channel is above the controls' mean.
    """
    for of, what in ((halves, "of halves of the catalog"), (tenths, "without a tenth of the catalog")):
        if (R := len(of.models.kept_RN)) < MIN_MODELS:
            raise UsageError(f"{R} models {what} are too few for a fit; {MIN_MODELS} are needed")
    if (Q := halves.models.losses_RQ.shape[1]) < MIN_QUERIES:
        raise UsageError(f"{Q} queries with losses are too few for a fit; {MIN_QUERIES} are needed")
    scales: dict[Channel, float] = {
        channel: float(np.sqrt((np.maximum(z_QN, 0) ** 2).mean())) for channel, z_QN in z.items()
    }
    if alike := [channel for channel, scale in scales.items() if not scale]:
        raise NumericsError(f"{alike[0]}: no song scores above the mean of controls for any query")
    f_QN = _strengths(z, scales)
    half_b, b = _worth_of(halves.models, f_QN), _worth_of(tenths.models, f_QN)
    folds = [halves.models[fold] for fold in FOLDS]
    even, odd = (_worth(kept_strengths(fold, f_QN), fold.losses_RQ) for fold in folds)
    if min(b.value, half_b.value, even, odd) <= 0:
        raise UsageError(f"scores do not go with what retraining does (b = {b}): they have no effects in nats")
    parts = [_residuals(fold, f_QN, other) for fold, other in zip(folds, (odd, even), strict=True)]
    left, of_songs, of_queries = (np.concatenate(part) for part in zip(*parts, strict=True))
    song, query = _scatter(left, of_songs, of_queries, halves.noise**2)
    scatter = Scatter(song, query, _hidden(fewest, f_QN, b.value, song, query))
    return EffectMap(b, half_b, (even, odd), scales, scatter, tenths.noise, len(tenths.models.kept_RN), Q)


def kept_strengths(models: Retrained, f_QN: np.ndarray) -> np.ndarray:
    """Sum of f over the songs that each model was trained on, float64 `[R, Q]`."""
    return models.kept_RN.astype(np.float64) @ f_QN.T


def centred(values_RQ: np.ndarray) -> np.ndarray:
    """Take off the mean over models."""
    return values_RQ - values_RQ.mean(axis=0)


def _strengths(z: Mapping[Channel, np.ndarray], scales: Mapping[Channel, float]) -> np.ndarray:
    return np.sum([np.maximum(z_QN, 0) / scales[channel] for channel, z_QN in z.items()], axis=0)


def _worth_of(models: Retrained, f_QN: np.ndarray) -> Estimate:
    """b by some models, with its interval over queries and models."""
    cover_RQ, (R, Q) = kept_strengths(models, f_QN), models.losses_RQ.shape

    def draw(rng: np.random.Generator) -> float:
        where = np.ix_(rng.integers(R, size=R), rng.integers(Q, size=Q))
        return _worth(cover_RQ[where], models.losses_RQ[where])

    return bootstrap(_worth(cover_RQ, models.losses_RQ), draw)


def _worth(cover_RQ: np.ndarray, losses_RQ: np.ndarray) -> float:
    x_RQ = -centred(cover_RQ)
    # A draw of one model alone differs from nothing.
    variance = (x_RQ**2).sum()
    return float((x_RQ * losses_RQ).sum() / variance) if variance else 0.0


def _residuals(models: Retrained, f_QN: np.ndarray, b: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared residuals of the losses, and those that scatter of songs and of queries of 1 would leave, `[R, Q]` each.

    Centring costs one of R degrees of freedom, which all three get back.
    """
    R = len(models.kept_RN)
    predicted_RQ = -b * centred(kept_strengths(models, f_QN))
    of_songs_RQ = centred(models.kept_RN.astype(np.float64)) ** 2 @ ((b * f_QN) ** 2).T
    left_RQ = centred(models.losses_RQ) - predicted_RQ
    return left_RQ**2 * R / (R - 1), of_songs_RQ * R / (R - 1), predicted_RQ**2 * R / (R - 1)


def _scatter(left: np.ndarray, of_songs: np.ndarray, of_queries: np.ndarray, noise: float) -> tuple[float, float]:
    """Split what is left after the noise of retraining into scatter of single songs and of whole queries.

    A square varies by its own size, so each is weighted by its expectation, which is found in a few rounds.
    """
    causes, target = np.stack([of_songs.ravel(), of_queries.ravel()], axis=1), left.ravel() - noise
    # Where no song has an effect and retraining no noise, a weight would be infinite.
    least = noise + 1e-6 * causes.mean()
    variances = np.array([0.25, 0.25])
    for _ in range(_ROUNDS):
        weight = 1 / (least + causes @ variances)
        variances, _ = nnls(causes * weight[:, None], target * weight)
    song, query = np.sqrt(variances)
    return float(song), float(query)


def _hidden(of: Measured, f_QN: np.ndarray, b: float, song: float, query: float) -> float:
    """Standard deviation of what neither scores nor their scatter nor noise tell of a single song's effect, in nats."""
    left_RQ, of_songs_RQ, of_queries_RQ = _residuals(of.models, f_QN, b)
    told_RQ = of.noise**2 + song**2 * of_songs_RQ + query**2 * of_queries_RQ
    R = len(of.models.kept_RN)
    songs_R1 = (centred(of.models.kept_RN.astype(np.float64)) ** 2).sum(axis=1, keepdims=True) * R / (R - 1)
    # Squares vary by their own size.
    weight_RQ = 1 / np.maximum(told_RQ, 1e-6 * left_RQ.mean()) ** 2
    variance = ((left_RQ - told_RQ) * weight_RQ).sum() / (songs_R1 * weight_RQ).sum()
    return float(np.sqrt(max(variance, 0)))
