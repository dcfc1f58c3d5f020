"""Effects in nats on banks whose truth is known: made of b, scales, scatter and noise that the fit must find again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gamma, norm

from lumina_ray.calibration.effects import Scatter
from lumina_ray.errors import NumericsError, UsageError
from lumina_ray.truth.effects import (
    EffectMap,
    Measured,
    Retrained,
    fit_map,
    retraining_noise,
    z_scores,
)  # fmt: skip
from lumina_ray.truth.effects_check import EffectCheck, check_best, check_halves, check_removals
from lumina_ray.truth.measures import Estimate
from lumina_ray.vocabulary import Channel

CHANNELS: tuple[Channel, ...] = ("P", "M")


@pytest.fixture(scope="module", autouse=True)
def _few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lumina_ray.truth.measures.DRAWS", 100)
        yield


def scattered(rng: np.random.Generator, part: float, shape: tuple[int, ...]) -> np.ndarray:
    """Factors of mean 1 and a standard deviation, gamma distributed."""
    return rng.gamma(1 / part**2, part**2, shape) if part else np.ones(shape)


@dataclass(frozen=True)
class World:
    """Music whose effects are known.

    Attributes:
        z: of each channel, `[Q, N]`: a few songs stand out for each query.
        effects_QN: what leaving each song out really costs.
    """

    z: dict[Channel, np.ndarray]
    effects_QN: np.ndarray
    noise: float

    @classmethod
    def make(
        cls,
        rng: np.random.Generator,
        Q: int,
        N: int,
        b: float,
        song: float = 0.0,
        query: float = 0.0,
        noise: float = 0.0,
    ) -> "World":
        common = rng.exponential(1.0, (Q, N)) ** 2
        z = {c: common * rng.uniform(0.5, 1.5, (Q, N)) - 1 for c in CHANNELS}
        return cls(z, b * strengths(z) * scattered(rng, song, (Q, N)) * scattered(rng, query, (Q, 1)), noise)

    def retrained(self, rng: np.random.Generator, kept_RN: np.ndarray) -> Retrained:
        """Models of some songs; what a query costs without any is its own affair."""
        Q, N = self.effects_QN.shape
        losses_RQ = 5 + np.arange(Q) - kept_RN @ self.effects_QN.T
        return Retrained(kept_RN, losses_RQ + self.noise * rng.normal(size=losses_RQ.shape))

    def halves(self, rng: np.random.Generator, R: int) -> Retrained:
        N = self.effects_QN.shape[1]
        return self.retrained(rng, rng.permuted(np.arange(N)[None].repeat(R, axis=0) < N // 2, axis=1))

    def tenths(self, rng: np.random.Generator, R: int) -> Retrained:
        N = self.effects_QN.shape[1]
        return self.retrained(rng, rng.permuted(np.arange(N)[None].repeat(R, axis=0) >= N // 10, axis=1))


def fit(world: World, rng: np.random.Generator, halves: Retrained, noise: float, tenths: int = 40) -> EffectMap:
    of_tenths = Measured(world.tenths(rng, tenths), noise)
    return fit_map(world.z, Measured(halves, noise), of_tenths, of_tenths)


def strengths(z: dict[Channel, np.ndarray]) -> np.ndarray:
    """f, said otherwise than the code says it: with each channel's own root mean square."""
    f_QN = np.zeros(z["P"].shape)
    for z_QN in z.values():
        positive = np.where(z_QN > 0, z_QN, 0.0)
        f_QN += positive / (np.linalg.norm(positive) / np.sqrt(positive.size))
    return f_QN


def fitted_map(b: float = 0.01, song: float = 0.7, query: float = 0.4) -> EffectMap:
    of, scatter = Estimate(b, b, b), Scatter(song, query, 0.0)
    return EffectMap(of, of, (b, b), {"P": 1.0, "M": 2.0}, scatter, 0.02, 64, 50)


def test_z_is_distance_from_the_controls_in_their_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    scores_QN, controls_CN = rng.normal(size=(3, 5)), rng.normal(size=(30, 5))
    z_QN = z_scores(scores_QN, controls_CN)
    for q in range(3):
        for n in range(5):
            of_song = [float(controls_CN[c, n]) for c in range(30)]
            mean = sum(of_song) / 30
            spread = (sum((value - mean) ** 2 for value in of_song) / 29) ** 0.5
            assert z_QN[q, n] == pytest.approx((scores_QN[q, n] - mean) / spread)


@given(seed=st.integers(0, 99), factor=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_z_takes_no_notice_of_a_songs_level_and_unit(seed: int, factor: float, shift: float) -> None:
    """So a song's mean similarity to the catalog, which reports take off, makes no difference."""
    rng = np.random.default_rng(seed)
    scores_QN, controls_CN, of_song_N = rng.normal(size=(2, 4)), rng.normal(size=(20, 4)), rng.normal(size=4) + shift
    changed = z_scores(factor * scores_QN + of_song_N, factor * controls_CN + of_song_N)
    np.testing.assert_allclose(changed, z_scores(scores_QN, controls_CN), rtol=1e-6, atol=1e-6)


@given(z_P=st.floats(-5, 5), z_M=st.floats(-5, 5), s_P=st.floats(0.1, 5), s_M=st.floats(0.1, 5), b=st.floats(1e-4, 1))
def test_an_effect_is_b_times_what_stands_out_in_either_channel(
    z_P: float, z_M: float, s_P: float, s_M: float, b: float
) -> None:
    fitted = replace(fitted_map(b), scales={"P": s_P, "M": s_M})
    found = fitted.effects({"P": np.array([[z_P]]), "M": np.array([[z_M]])})
    assert float(found[0, 0]) == pytest.approx(b * (max(0, z_P) / s_P + max(0, z_M) / s_M))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), b=st.floats(1e-4, 10), R=st.integers(10, 16), Q=st.integers(5, 8))
def test_b_and_scales_of_a_bank_without_scatter_are_found(seed: int, b: float, R: int, Q: int) -> None:
    rng = np.random.default_rng(seed)
    world = World.make(rng, Q, 30, b)
    fitted = fit(world, rng, world.halves(rng, R), noise=0.0)
    assert (fitted.b.value, fitted.half_b.value, *fitted.folds) == pytest.approx((b, b, b, b))
    scatter = fitted.scatter
    assert (scatter.song, scatter.query, scatter.hidden / b) == pytest.approx((0, 0, 0), abs=1e-4)
    for channel in CHANNELS:
        positive = [max(0.0, float(value)) for value in world.z[channel].ravel()]
        assert fitted.scales[channel] == pytest.approx((sum(value**2 for value in positive) / len(positive)) ** 0.5)
    np.testing.assert_allclose(fitted.effects(world.z), world.effects_QN)


def test_b_is_that_of_a_regression_with_a_level_for_each_query() -> None:
    rng = np.random.default_rng(1)
    world = World.make(rng, 6, 40, 0.02, song=0.7, query=0.3, noise=0.05)
    halves, tenths = world.halves(rng, 20), world.tenths(rng, 20)
    fitted = fit_map(world.z, *(Measured(of, 0.05) for of in (halves, tenths, tenths)))
    for models, found in ((halves, fitted.half_b), (tenths, fitted.b)):
        columns = [-(models.kept_RN @ strengths(world.z).T).ravel()]
        columns += [np.tile(np.arange(6) == q, 20).astype(float) for q in range(6)]
        expected = np.linalg.lstsq(np.stack(columns, axis=1), models.losses_RQ.ravel(), rcond=None)[0][0]
        assert found.value == pytest.approx(expected)
        assert found.low < expected < found.high


def test_b_is_what_songs_are_worth_to_a_whole_catalog() -> None:
    """Each song is worth twice as much where half of the others are missing: halves must not tell b."""
    rng = np.random.default_rng(2)
    world = World.make(rng, 20, 40, 0.02)
    richer = replace(world, effects_QN=2 * world.effects_QN)
    tenths = Measured(world.tenths(rng, 40), 0.01)
    fitted = fit_map(world.z, Measured(richer.halves(rng, 40), 0.01), tenths, tenths)
    assert (fitted.b.value, fitted.half_b.value) == pytest.approx((0.02, 0.04))
    np.testing.assert_allclose(fitted.effects(world.z), world.effects_QN)


def test_b_and_scatter_are_found_in_noise() -> None:
    """Over many banks: one bank's b is off by a tenth."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        world = World.make(rng, 100, 60, 0.02, song=0.7, query=0.4, noise=0.03)
        found.append(fit(world, rng, world.halves(rng, 60), noise=0.03))
    for b in ([one.b for one in found], [one.half_b for one in found]):
        assert np.mean([one.value for one in b]) == pytest.approx(0.02, rel=0.05)
        # Tails are long here: b's interval holds it in some 90 % of banks.
        assert np.mean([one.low < 0.02 < one.high for one in b]) >= 0.8
    # A query's factor multiplies the song's: 0.7² · (1 + 0.4²).
    assert np.mean([one.scatter.song for one in found]) == pytest.approx(0.7 * (1 + 0.4**2) ** 0.5, abs=0.07)
    assert np.mean([one.scatter.query for one in found]) == pytest.approx(0.4, abs=0.07)


def test_noise_of_retraining_is_not_taken_for_scatter() -> None:
    rng = np.random.default_rng(3)
    world = World.make(rng, 60, 60, 0.02, noise=0.2)
    halves = world.halves(rng, 60)
    assert fit(world, rng, halves, noise=0.2).scatter.song < 0.3
    assert fit(world, rng, halves, noise=0.0).scatter.song > 1


def test_noise_is_half_the_variance_of_differences_without_what_the_other_seed_gives_to_all() -> None:
    rng = np.random.default_rng(4)
    groups = {"half": rng.normal(size=(5, 3)) + 9, "tenth": rng.normal(size=(4, 3)) - 7, "single": np.ones((1, 3))}
    of_query = [
        (4 * groups["half"][:, q].var(ddof=1) + 3 * groups["tenth"][:, q].var(ddof=1)) / 7 / 2 for q in range(3)
    ]
    assert retraining_noise(groups) == pytest.approx(np.mean(of_query) ** 0.5)
    noise, seeds = 0.3, rng.normal(size=(2, 1, 400))
    first, second = (noise * rng.normal(size=(8, 400)) + seed for seed in seeds)
    assert retraining_noise({"half": second - first}) == pytest.approx(noise, rel=0.05)


@pytest.mark.parametrize("size", [1, 5, 20])
@pytest.mark.parametrize(("hidden", "noise"), [(0.0, 0.0), (0.004, 0.0), (0.004, 0.003), (0.0, 0.003)])
def test_intervals_hold_what_leaving_songs_out_costs(size: int, hidden: float, noise: float) -> None:
    rng, scatter = np.random.default_rng(5), Scatter(0.6, 0.4, hidden)
    held = []
    for _ in range(800):
        effects_n = 0.01 * rng.exponential(1.0, size)
        # Song and query scatter as the fit tells them: variances of parts that add up.
        song = 0.6 / (1 + 0.4**2) ** 0.5
        actual = effects_n @ scattered(rng, song, (size,)) * float(scattered(rng, 0.4, ()))
        actual += hidden * rng.normal(size=size).sum() + noise * rng.normal()
        low, high = scatter.interval(effects_n.sum(), (effects_n**2).sum(), size, noise**2)
        held.append(low <= actual <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_an_interval_is_the_gamma_distribution_of_its_mean_and_variance() -> None:
    total, squares = 0.05, 0.02**2 + 0.03**2
    variance = 0.7**2 * squares + 0.4**2 * total**2
    expected = gamma(a=total**2 / variance, scale=variance / total).interval(0.95)
    assert Scatter(0.7, 0.4, 0.0).interval(total, squares, 3) == pytest.approx(expected)
    assert Scatter(0.7, 0.4, 0.0).interval(0.0, 0.0, 3) == (0.0, 0.0)
    assert Scatter(0.0, 0.0, 0.0).interval(total, squares, 3) == pytest.approx((0.05, 0.05), rel=0.01)


def test_where_no_score_tells_anything_an_interval_is_normal_and_holds_zero() -> None:
    low, high = Scatter(0.7, 0.4, 0.003).interval(0.0, 0.0, 4, 0.001**2)
    assert (low, high) == pytest.approx(norm(0, (4 * 0.003**2 + 0.001**2) ** 0.5).interval(0.95))


@given(
    total=st.floats(0, 10),
    song=st.floats(0, 50),
    query=st.floats(0, 50),
    hidden=st.floats(0, 1),
    more=st.floats(0, 1),
    n=st.integers(1, 10**6),
)
def test_intervals_hold_the_prediction_and_only_grow_with_what_is_not_known(
    total: float, song: float, query: float, hidden: float, more: float, n: int
) -> None:
    low, high = Scatter(song, query, hidden).interval(total, total**2 / n, n)
    wider = Scatter(song, query, hidden + more).interval(total, total**2 / n, n)
    assert np.isfinite([low, high]).all()
    assert wider[0] <= low <= total <= high <= wider[1]


@pytest.mark.parametrize("lacking", [1, 6])
def test_what_is_hidden_is_found_by_models_that_lack_few_songs(lacking: int) -> None:
    rng = np.random.default_rng(6)
    world = World.make(rng, 60, 60, 0.02, song=0.3, query=0.2)
    blurred = replace(world, effects_QN=world.effects_QN + 0.05 * rng.normal(size=(60, 60)), noise=0.01)
    kept_RN = rng.permuted(np.arange(60)[None].repeat(60, axis=0) >= lacking, axis=1)
    found = [
        fit_map(
            world.z,
            Measured(world.halves(rng, 60), 0.0),
            Measured(world.tenths(rng, 40), 0.0),
            Measured(of.retrained(rng, kept_RN), noise),
        ).scatter.hidden
        for of, noise in ((blurred, 0.01), (world, 0.0))
    ]
    assert found[0] == pytest.approx(0.05, rel=0.1)
    assert found[1] < 0.01


@pytest.fixture(scope="module")
def checked() -> tuple[World, EffectMap, EffectCheck, EffectCheck]:
    """A fit and what is found of it on other queries of the same music."""
    rng = np.random.default_rng(7)
    N, kwargs = 60, {"song": 0.7, "query": 0.4, "noise": 0.02}
    world = World.make(rng, 160, N, 0.02, **kwargs)
    kept_RN = world.halves(rng, 80).kept_RN
    half = {"dev": slice(0, 80), "test": slice(80, 160)}
    worlds = {
        split: World({c: z_QN[of] for c, z_QN in world.z.items()}, world.effects_QN[of], 0.02)
        for split, of in half.items()
    }
    fitted = fit(worlds["dev"], rng, worlds["dev"].retrained(rng, kept_RN), noise=0.02)
    test = worlds["test"]
    halves = check_halves(fitted, test.z, test.retrained(rng, kept_RN), range(80), noise=0.02)
    # Of the model of the whole catalog there is one: what it has of noise, all effects share.
    whole = replace(test, noise=0.0).retrained(rng, np.ones((1, N), bool)).losses_RQ[0]
    models = test.retrained(rng, ~np.eye(N, dtype=bool))
    single = check_removals(fitted, "single", test.z, models, range(80), whole, noise=0.02)
    return test, fitted, halves, single


def test_a_right_fit_has_slope_1_on_other_queries_and_its_intervals_hold(
    checked: tuple[World, EffectMap, EffectCheck, EffectCheck],
) -> None:
    _, _, halves, single = checked
    for check in (halves, single):
        assert check.slope.low < 1 < check.slope.high
        assert check.slope.value == pytest.approx(1, abs=0.2)
        assert check.coverage.value == pytest.approx(0.95, abs=0.03)
        assert check.r2.low < check.r2.value < check.r2.high < check.reachable_r2 < 1
    assert halves.mean_actual is None
    assert single.mean_actual is not None
    assert single.mean_actual.value == pytest.approx(single.mean_predicted, rel=0.15)
    assert (halves.removals, halves.n_models, halves.n_queries) == ("half", 80, 80)
    assert (single.removals, single.n_models, single.n_queries) == ("single", 60, 80)


def test_scores_of_another_query_are_a_placebo(checked: tuple[World, EffectMap, EffectCheck, EffectCheck]) -> None:
    for check in checked[2:]:
        assert abs(check.placebo_slope.value) < 0.1
        assert check.placebo_r2.value < 0


def test_figures_are_those_of_one_number_at_a_time() -> None:
    rng = np.random.default_rng(8)
    world = World.make(rng, 5, 12, 0.05, song=0.5, noise=0.02)
    fitted = fit(world, rng, world.halves(rng, 16), noise=0.02)
    models = world.halves(rng, 9)
    groups = ["a", "b", "a", "c", "d"]
    check = check_removals(fitted, "tenth", world.z, models, groups, models.losses_RQ.mean(axis=0), noise=0.02)
    predicted = np.array([
        [-sum(fitted.effects(world.z)[q, n] for n in range(12) if models.kept_RN[r, n]) for q in range(5)]
        for r in range(9)
    ])  # fmt: skip
    actual, predicted = (values - values.mean(axis=0) for values in (models.losses_RQ, predicted))
    assert check.slope.value == pytest.approx(np.polyfit(predicted.ravel(), actual.ravel(), 1)[0])
    assert check.r2.value == pytest.approx(1 - ((actual - predicted) ** 2).sum() / (actual**2).sum())
    pairs = [(q, p) for q in range(5) for p in range(5) if groups[q] != groups[p]]
    assert len(pairs) == 5 * 4 - 2
    x, y = (np.concatenate([of[:, pair[i]] for pair in pairs]) for i, of in ((1, predicted), (0, actual)))
    assert check.placebo_slope.value == pytest.approx((x * y).sum() / (x**2).sum())
    assert check.placebo_r2.value == pytest.approx(1 - ((y - x) ** 2).sum() / (y**2).sum())


def test_models_are_judged_by_the_b_of_the_others() -> None:
    """Models of odd number lose twice as much: those of even number must then be predicted twice too high."""
    rng = np.random.default_rng(9)
    world = World.make(rng, 6, 20, 0.05)
    kept_RN = world.halves(rng, 400).kept_RN
    losses_RQ = -(kept_RN @ world.effects_QN.T) * np.where(np.arange(400) % 2, 2, 1)[:, None]
    fitted = fit(world, rng, Retrained(kept_RN, losses_RQ), noise=0.0)
    assert fitted.folds == pytest.approx((0.05, 0.1))
    slope = check_halves(fitted, world.z, Retrained(kept_RN, losses_RQ), range(6), noise=0.1).slope.value
    # (1 · 2 + 2 · 1) / (2² + 1²), for folds whose f vary alike.
    assert slope == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"controls": 0}, "0 controls"),
        ({"controls": 19}, "19 controls"),
        ({"models": 7}, "7 models of halves"),
        ({"tenths": 7}, "7 models without a tenth"),
        ({"queries": 3}, "3 queries"),
        ({"b": -0.02}, "do not go with what retraining does"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: dict, message: str) -> None:
    of = {"controls": 20, "models": 8, "tenths": 8, "queries": 4, "b": 0.02} | change
    rng = np.random.default_rng(10)
    world = World.make(rng, of["queries"], 20, of["b"])
    controls_CN = rng.normal(size=(of["controls"], 20))
    with pytest.raises(UsageError, match=message):
        z = {c: z_scores(world.z[c], controls_CN) for c in CHANNELS}
        fit(replace(world, z=z), rng, world.halves(rng, of["models"]), noise=0.01, tenths=of["tenths"])


def test_noise_takes_models_that_were_trained_again() -> None:
    with pytest.raises(UsageError, match="with repeats"):
        retraining_noise({})
    with pytest.raises(UsageError, match="with repeats"):
        retraining_noise({"half": np.ones((1, 3))})


def test_the_best_songs_are_checked_one_by_one_and_added_up() -> None:
    rng = np.random.default_rng(13)
    world = World.make(rng, 200, 30, 0.02, song=0.6, query=0.4)
    fitted = replace(
        fitted_map(0.02, song=0.6 * (1 + 0.4**2) ** 0.5), scales=fit(world, rng, world.halves(rng, 16), 0.0).scales
    )
    rises_QN = world.effects_QN + 0.01 * rng.normal(size=world.effects_QN.shape)
    checks = check_best(fitted, world.z, rises_QN, noise=0.01)
    assert [check.n_songs for check in checks] == [1, 3, 5, 10, 20]
    predicted_QN = 0.02 * strengths(world.z)
    for check in checks:
        best = [np.argsort(-of_N, kind="stable")[: check.n_songs] for of_N in predicted_QN]
        of_best = [(predicted_QN[q, songs].sum(), rises_QN[q, songs].sum()) for q, songs in enumerate(best)]
        expected = np.mean(of_best, axis=0)
        assert (check.predicted, check.actual.value) == pytest.approx(tuple(expected))
        assert check.actual.low < check.predicted < check.actual.high
        assert check.coverage.value == pytest.approx(0.95, abs=0.04)


def test_too_few_queries_are_no_check() -> None:
    rng = np.random.default_rng(11)
    world = World.make(rng, 3, 20, 0.02)
    fitted = replace(fitted_map(), scales={"P": 1.0, "M": 1.0})
    with pytest.raises(UsageError, match="3 queries"):
        check_halves(fitted, world.z, world.halves(rng, 8), range(3), noise=0.01)


def test_scores_that_cannot_be_right_are_refused() -> None:
    controls_CN = np.random.default_rng(12).normal(size=(20, 3))
    with pytest.raises(NumericsError, match="not finite"):
        z_scores(np.full((2, 3), np.nan), controls_CN)
    with pytest.raises(NumericsError, match="song 1 alike"):
        z_scores(np.zeros((2, 3)), controls_CN * [1, 0, 1])
    with pytest.raises(UsageError, match="4 songs"):
        z_scores(np.zeros((2, 4)), controls_CN)
    with pytest.raises(NumericsError, match="P: no song"):
        models = Measured(Retrained(np.ones((8, 5), bool), np.zeros((8, 4))), 0.1)
        fit_map({"P": -np.ones((4, 5))}, models, models, models)
    with pytest.raises(UsageError, match="channels P, M"):
        fitted_map().effects({"P": np.zeros((1, 1))})
