"""How well predicted effects agree with retrained models, on queries that the fit has not seen.

Shape legend: R retrained models, Q queries, N songs of the catalog.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from lumina_ray.calibration.effects import LEVEL, STRICT
from lumina_ray.errors import UsageError
from lumina_ray.truth.effects import (
    FOLDS,
    MIN_QUERIES,
    EffectMap,
    Retrained,
    centred,
    kept_strengths,
)  # fmt: skip
from lumina_ray.truth.measures import Estimate, bootstrap, mean
from lumina_ray.vocabulary import Channel

BEST = (1, 3, 5, 10, 20)
"""Numbers of songs with the largest effects that are checked together."""


@dataclass(frozen=True)
class EffectCheck:
    """Predicted against actual effects, over one group of retrained models.

    Every loss is told as its difference to the query's mean over the models of the group. Intervals are over queries
    and retrained models, both drawn again.

    Attributes:
        removals: the group: "half", "tenth", "single", "without-creator" or "without-class".
        slope: of actual on predicted effects; 1 is right.
        r2: how much of the variance of losses over models the predictions explain, slope 1 taken as given.
        reachable_r2: what right predictions would explain; the rest is the noise of retraining.
        coverage: how often 95 % intervals, widened by the noise of retraining, hold the loss.
        placebo_slope, placebo_r2: the same with the scores of other queries, of other works and captions.
        mean_predicted: mean predicted rise of the loss over that of the model of the whole catalog, in nats per code.
        mean_actual: the actual one. Both are None for halves: there coverage is of differences to the mean over models.
    """

    __pydantic_config__ = STRICT

    removals: str
    n_models: int
    n_queries: int
    slope: Estimate
    r2: Estimate
    reachable_r2: float
    coverage: Estimate
    placebo_slope: Estimate
    placebo_r2: Estimate
    mean_predicted: float | None = None
    mean_actual: Estimate | None = None


@dataclass(frozen=True)
class BestCheck:
    """Predicted against actual effects of the songs with the largest ones, each left out alone, and added up.

    Attributes:
        n_songs: of each query, chosen by prediction.
        predicted: mean sum over queries, in nats per code.
        actual: of the same songs, by models without each of them; its interval is over queries.
        coverage: how often 95 % intervals, widened by the noise of retraining, hold the sum.
    """

    __pydantic_config__ = STRICT

    n_songs: int
    predicted: float
    actual: Estimate
    coverage: Estimate


@dataclass(frozen=True)
class _Compared:
    """Actual losses beside predictions that differ from them by a constant for each query.

    Attributes:
        losses_RQ, predicted_RQ: in nats per code.
        fold_R: models are compared within their fold only: another has another b.
        other_QQ: which queries' scores are a placebo for which query.
    """

    losses_RQ: np.ndarray
    predicted_RQ: np.ndarray
    fold_R: np.ndarray
    other_QQ: np.ndarray

    def centred(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actual and predicted differences to the mean over the models of a fold."""
        parts = [part for fold in np.unique(self.fold_R) if (part := rows[self.fold_R[rows] == fold]).size]
        actual, predicted = (
            np.concatenate([centred(values_RQ[np.ix_(part, columns)]) for part in parts])
            for values_RQ in (self.losses_RQ, self.predicted_RQ)
        )
        return actual, predicted

    def estimate(self, figure: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> Estimate:
        """A figure of actual and predicted differences and of `other_QQ`, with its interval."""
        R, Q = self.losses_RQ.shape

        def draw(rng: np.random.Generator) -> float:
            rows, columns = rng.integers(R, size=(R,)), rng.integers(Q, size=(Q,))
            return figure(*self.centred(rows, columns), self.other_QQ[np.ix_(columns, columns)])

        return bootstrap(figure(*self.centred(np.arange(R), np.arange(Q)), self.other_QQ), draw)


def check_halves(
    fitted: EffectMap, z: Mapping[Channel, np.ndarray], halves: Retrained, groups: Sequence[Hashable], noise: float
) -> EffectCheck:
    """Check a fit on models of halves of the catalog. Each model is predicted by the b of those that it is not among.

    The b is that of halves: this is a check of what scores order, and of how far losses scatter about it.

    Args:
        z: `[Q, N]` of each channel, of other queries than the fit's.
        halves: the very models of the fit, in its order.
        groups: the work or caption of each query. Scores of another query of the group are no placebo.
        noise: of retraining, under halves.

    Raises:
        UsageError: fewer than `MIN_QUERIES` queries.
    """
    f_QN, fold_R = fitted.strengths(z), np.arange(len(halves.kept_RN)) % len(FOLDS)
    worth_R1 = np.array(fitted.folds)[::-1][fold_R, None]
    compared = _Compared(halves.losses_RQ, -worth_R1 * kept_strengths(halves, f_QN), fold_R, _others(groups))
    covered = [
        _differences_covered(fitted, b * f_QN, halves[fold], noise)
        for fold, b in zip(FOLDS, fitted.folds[::-1], strict=True)
    ]
    return _check("half", compared, np.concatenate(covered), noise)


def check_removals(
    fitted: EffectMap,
    removals: str,
    z: Mapping[Channel, np.ndarray],
    models: Retrained,
    groups: Sequence[Hashable],
    whole_Q: np.ndarray,
    noise: float,
) -> EffectCheck:
    """Check a fit on models without some songs.

    Args:
        removals: name of the group.
        z, groups: as in `check_halves`.
        whole_Q: losses under the model of the whole catalog, in nats per code.
        noise: of retraining, under models of this group or of one that removes about as much.

    Raises:
        UsageError: fewer than `MIN_QUERIES` queries.
    """
    effects_QN = fitted.effects(z)
    predicted_RQ, fold_R = -kept_strengths(models, effects_QN), np.zeros(len(models.kept_RN), int)
    compared = _Compared(models.losses_RQ, predicted_RQ, fold_R, _others(groups))
    rises_RQ, left_out_RN = models.losses_RQ - whole_Q, (~models.kept_RN).astype(np.float64)
    totals_RQ = left_out_RN @ effects_QN.T
    low_RQ, high_RQ = fitted.scatter.interval(
        totals_RQ, left_out_RN @ (effects_QN**2).T, left_out_RN.sum(axis=1, keepdims=True), noise**2
    )
    checked = _check(removals, compared, (rises_RQ >= low_RQ) & (rises_RQ <= high_RQ), noise)
    return replace(checked, mean_predicted=float(totals_RQ.mean()), mean_actual=_mean(rises_RQ))


def check_best(
    fitted: EffectMap, z: Mapping[Channel, np.ndarray], rises_QN: np.ndarray, noise: float
) -> tuple[BestCheck, ...]:
    """Check a fit on the songs with the largest effects: `BEST` of them, as far as the catalog has so many.

    Args:
        z: as in `check_halves`.
        rises_QN: by how much leaving each song out alone raised each query's loss, in nats per code.
        noise: of retraining, of models without one song.
    """
    effects_QN, out = fitted.effects(z), []
    order_QN = np.argsort(-effects_QN, axis=1, kind="stable")
    for n in (n for n in BEST if n <= effects_QN.shape[1]):
        best_Qn = order_QN[:, :n]
        of_best_Qn = np.take_along_axis(effects_QN, best_Qn, axis=1)
        actual_Q = np.take_along_axis(rises_QN, best_Qn, axis=1).sum(axis=1)
        predicted_Q = of_best_Qn.sum(axis=1)
        low_Q, high_Q = fitted.scatter.interval(predicted_Q, (of_best_Qn**2).sum(axis=1), n, n * noise**2)
        held_Q = ((actual_Q >= low_Q) & (actual_Q <= high_Q)).astype(np.float64)
        out.append(BestCheck(n, float(predicted_Q.mean()), mean(actual_Q), mean(held_Q)))
    return tuple(out)


def _check(removals: str, compared: _Compared, covered_RQ: np.ndarray, noise: float) -> EffectCheck:
    R, Q = compared.losses_RQ.shape
    if Q < MIN_QUERIES:
        raise UsageError(f"{Q} queries with losses are too few to check effects on; {MIN_QUERIES} are needed")
    actual_RQ, _ = compared.centred(np.arange(R), np.arange(Q))
    of_fold = R / len(np.unique(compared.fold_R))
    return EffectCheck(
        removals=removals,
        n_models=R,
        n_queries=Q,
        slope=compared.estimate(_slope),
        r2=compared.estimate(_r2),
        reachable_r2=float(1 - noise**2 * (1 - 1 / of_fold) / (actual_RQ**2).mean()),
        coverage=_mean(covered_RQ.astype(np.float64)),
        placebo_slope=compared.estimate(_placebo_slope),
        placebo_r2=compared.estimate(_placebo_r2),
    )


def _differences_covered(
    fitted: EffectMap, effects_QN: np.ndarray, models: Retrained, retraining_noise: float
) -> np.ndarray:
    """Whether each loss's difference to the mean over models lies in its 95 % interval, bool `[R, Q]`.

    Songs of many models add up to it with either sign: it is taken as normally distributed. What is hidden of single
    songs is told beside the b of a whole catalog, and is not added.
    """
    songs_RN = centred(models.kept_RN.astype(np.float64))
    predicted_RQ = -songs_RN @ effects_QN.T
    scatter = fitted.scatter
    variance_RQ = scatter.song**2 * (songs_RN**2 @ (effects_QN**2).T) + scatter.query**2 * predicted_RQ**2
    noise = retraining_noise**2 * (1 - 1 / len(songs_RN))
    reach_RQ = norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance_RQ + noise)
    return np.abs(centred(models.losses_RQ) - predicted_RQ) <= reach_RQ


def _mean(values_RQ: np.ndarray) -> Estimate:
    R, Q = values_RQ.shape

    def draw(rng: np.random.Generator) -> float:
        return float(values_RQ[np.ix_(rng.integers(R, size=R), rng.integers(Q, size=Q))].mean())

    return bootstrap(float(values_RQ.mean()), draw)


def _others(groups: Sequence[Hashable]) -> np.ndarray:
    return np.array([[one != another for another in groups] for one in groups])


def _slope(actual_RQ: np.ndarray, predicted_RQ: np.ndarray, _: np.ndarray) -> float:
    # A draw of one model alone, of few, differs from nothing.
    variance = (predicted_RQ**2).sum()
    return float((actual_RQ * predicted_RQ).sum() / variance) if variance else 0.0


def _r2(actual_RQ: np.ndarray, predicted_RQ: np.ndarray, _: np.ndarray) -> float:
    variance = (actual_RQ**2).sum()
    return float(1 - ((actual_RQ - predicted_RQ) ** 2).sum() / variance) if variance else 0.0


def _placebo_slope(actual_RQ: np.ndarray, predicted_RQ: np.ndarray, other_QQ: np.ndarray) -> float:
    together, own = (actual_RQ.T @ predicted_RQ)[other_QQ].sum(), (other_QQ * (predicted_RQ**2).sum(axis=0)).sum()
    # A draw of one query alone has no other.
    return float(together / own) if own else 0.0


def _placebo_r2(actual_RQ: np.ndarray, predicted_RQ: np.ndarray, other_QQ: np.ndarray) -> float:
    left = 2 * (actual_RQ.T @ predicted_RQ)[other_QQ].sum() - (other_QQ * (predicted_RQ**2).sum(axis=0)).sum()
    variance = (other_QQ * (actual_RQ**2).sum(axis=0)[:, None]).sum()
    return float(left / variance) if variance else 0.0
