import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.calibration import ALPHA, ChannelCalibration, calibrate, song_means
from lumina_ray.calibration.null import _fit_pareto
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from tests.calibration.synthetic import World, mixture, unit


@pytest.fixture(scope="module")
def world() -> World:
    return World(np.random.default_rng(1), 96)


@pytest.fixture(scope="module")
def catalog(world: World) -> np.ndarray:
    return world.music(130)


@pytest.fixture(scope="module")
def controls(world: World) -> np.ndarray:
    return world.music(50)


@pytest.fixture(scope="module")
def noise(catalog: np.ndarray, controls: np.ndarray) -> ChannelCalibration:
    return calibrate(catalog, controls)


def adjusted(tracks: np.ndarray, catalog: np.ndarray) -> np.ndarray:
    return tracks.astype(np.float64) @ catalog.T.astype(np.float64) - song_means(catalog)[0]


def test_mean_and_std_are_of_all_pairs(noise, catalog, controls):
    S = controls.astype(np.float64) @ catalog.astype(np.float64).T
    assert (noise.n_songs, noise.n_controls, noise.dims) == (130, 50, 96)
    assert noise.mean == pytest.approx(S.mean(), abs=1e-12)
    assert noise.std == pytest.approx(S.std(), abs=1e-12)
    assert noise.control_maxima_similarity == pytest.approx(sorted(S.max(axis=1), reverse=True))
    assert noise.z(np.array([noise.mean, noise.mean + 2 * noise.std])) == pytest.approx([0, 2])
    assert noise.exceedance["1"] == pytest.approx((noise.z(S) >= 1).mean())


def test_family_wise_p_counts_the_controls_whose_best_match_is_as_good(noise, catalog, controls):
    maxima = adjusted(controls, catalog).max(axis=1)
    np.testing.assert_allclose(noise.control_maxima, np.sort(maxima)[::-1], atol=1e-12)
    for value in (*maxima[:10], -1.0, 1.0, float(np.median(maxima)) + 1e-6):
        expected = (1 + (np.array(noise.control_maxima) >= value).sum()) / 51
        assert noise.family_wise_p(np.array([value]))[0] == expected
    assert noise.family_wise_p(np.array([1.0]))[0] == noise.resolution == 1 / 51


def test_single_song_p_is_the_pooled_count_rounded_upwards_by_one_percent(noise, catalog, controls):
    pooled = adjusted(controls, catalog).ravel()
    values = np.quantile(pooled, np.linspace(0, 1, 97)) + 1e-9
    exact = np.array([(1 + (pooled >= v).sum()) / (1 + pooled.size) for v in values])
    p = noise.p_value(values)
    assert (p >= exact - 1e-12).all()
    assert (p <= 1.011 * exact + 1e-12).all()
    assert noise.p_value(np.array([2.0, -2.0])) == pytest.approx([1 / (1 + pooled.size), 1.0])


@settings(max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_p_values_never_rise_with_similarity(values):
    world = World(np.random.default_rng(3), 16)
    noise = _cached(world)
    s = np.sort(values)
    for p in (noise.p_value(s), noise.family_wise_p(s)):
        assert (np.diff(p) <= 0).all()
        assert ((p > 0) & (p <= 1)).all()
    assert (noise.family_wise_p(s) >= noise.resolution).all()


_CACHE: dict[str, ChannelCalibration] = {}


def _cached(world: World) -> ChannelCalibration:
    return _CACHE.setdefault("noise", calibrate(world.music(30), world.music(25)))


@pytest.mark.parametrize("n_controls", [20, 39, 50, 99])
def test_critical_value_and_p_value_agree(n_controls):
    world = World(np.random.default_rng(n_controls), 32)
    noise = calibrate(world.music(40), world.music(n_controls))
    critical = noise.critical(ALPHA)
    assert noise.family_wise_p(np.array([critical]))[0] > ALPHA
    assert noise.family_wise_p(np.array([np.nextafter(critical, 2)]))[0] <= ALPHA


def test_critical_value_beyond_the_controls_is_refused(noise):
    with pytest.raises(UsageError, match=r"alpha 0\.01 needs at least 99 controls, got 50"):
        noise.critical(0.01)


@pytest.mark.parametrize(("n_songs", "hubs"), [(60, 0), (60, 3), (400, 5)])
def test_false_positive_rate_holds_at_any_catalog_size_and_with_hubs(n_songs, hubs):
    """Exchangeable queries: family-wise error ≤ alpha; the published 1σ rule passes 16 % of all songs."""
    errors, published, queries = 0, 0, 0
    for seed in range(60):
        world = World(np.random.default_rng(1000 + seed), 64)
        catalog = world.music(n_songs)
        catalog[:hubs] = world.hubs(hubs)
        noise = calibrate(catalog, world.music(50))
        tracks = world.music(50)
        errors += (noise.family_wise_p(adjusted(tracks, catalog).max(axis=1)) <= ALPHA).sum()
        z = noise.z(tracks.astype(np.float64) @ catalog.T)
        published += (z >= 1).mean() / 60
        queries += 50
    # Queries of one seed share their controls, so the binomial tolerance is widened to that of 60 independent rates.
    expected = 2 / 51
    tolerance = 4 * np.sqrt(expected * (1 - expected) / 51 / 60 + expected / queries)
    assert abs(errors / queries - expected) < tolerance
    assert errors / queries <= ALPHA + tolerance
    assert 0.1 < published < 0.22


def test_hubs_neither_hide_true_matches_nor_take_all_false_ones():
    """Why p-values are taken on adjusted similarity: with raw similarity three hubs would set the bar for everybody."""
    found = {"adjusted": 0.0, "raw": 0.0}
    for seed in range(20):
        world = World(np.random.default_rng(2000 + seed), 128)
        catalog = world.music(130)
        catalog[:3] = world.hubs(3)
        controls = world.music(50)
        noise = calibrate(catalog, controls)
        true = world.rng.integers(3, 130, size=50)
        tracks = mixture(catalog[true], world.music(50), 0.4)
        similarity = (tracks.astype(np.float64) @ catalog.T)[np.arange(50), true]
        found["adjusted"] += (similarity - song_means(catalog)[0][true] > noise.critical()).mean() / 20
        found["raw"] += (similarity > noise.control_maxima_similarity[1]).mean() / 20
    assert found["adjusted"] > 0.85
    assert found["adjusted"] > found["raw"] + 0.2


def test_the_tail_is_an_extrapolation_only(noise):
    top = noise.control_maxima[0]
    assert noise.extrapolated_p(top) is None
    beyond = [noise.extrapolated_p(top + d) for d in (1e-6, 0.05, 0.2, 1.0)]
    assert all(0 <= p <= noise.resolution for p in beyond)
    assert beyond == sorted(beyond, reverse=True)
    of_one = scipy.stats.genpareto.sf(top + 0.2 - noise.tail_start, noise.tail_shape, scale=noise.tail_scale)
    assert beyond[2] == pytest.approx(130 * noise.tail_fraction * of_one, rel=1e-9)


@pytest.mark.parametrize("shape", [0.0, 0.1, 0.3])
def test_pareto_fit_recovers_its_parameters(shape):
    sample = scipy.stats.genpareto.rvs(shape, scale=0.05, size=50_000, random_state=0)
    scale, found = _fit_pareto(np.sort(sample)[::-1])
    assert scale == pytest.approx(0.05, rel=0.03)
    assert found == pytest.approx(shape, abs=0.02)


def test_a_tail_that_ends_is_taken_for_an_exponential_one():
    assert _fit_pareto(np.linspace(1, 0, 500)) == (pytest.approx(0.5), 0.0)


def test_the_tail_is_right_about_songs_that_the_controls_were_too_few_for():
    """Normal noise, whose tail is known and thinner than exponential: p is small, and errs upwards."""
    rng = np.random.default_rng(0)
    catalog, controls = (unit(rng.normal(size=(n, 256))).astype(np.float32) for n in (2000, 50))
    noise = calibrate(catalog, controls)
    for z in (4.8, 5.3):
        truth = 2000 * scipy.stats.norm.sf(z)
        assert truth < noise.extrapolated_p(noise.mean + z * noise.std) < 30 * truth


def test_q_values_are_those_of_benjamini_and_hochberg(noise):
    rng = np.random.default_rng(0)
    found = np.append(rng.choice(noise.null_values[500:], 124), [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    expected = scipy.stats.false_discovery_control(noise.p_value(found))
    np.testing.assert_allclose(noise.q_values(found), expected)
    # What a search left out is no better: the q-values of the best are the same without it, and never smaller.
    best = np.sort(found)[::-1]
    np.testing.assert_allclose(noise.q_values(best[:40])[:6], np.sort(expected)[:6])
    assert (noise.q_values(best[:3]) >= np.sort(expected)[:3]).all()


@settings(max_examples=50)
@given(st.floats(1e-4, 1))
def test_value_at_is_where_p_values_become_small_enough(p):
    noise = _cached(World(np.random.default_rng(3), 16))
    value = noise.value_at(p)
    if value == math.inf:
        assert noise.p_value(np.array([9.0]))[0] > p
    else:
        assert noise.p_value(np.array([np.nextafter(value, 2)]))[0] <= p
        assert noise.p_value(np.array([np.nextafter(value, -2)]))[0] > p * 0.98 - 1e-9


def test_a_query_unlike_all_controls_shows_in_its_bulk(noise, world, catalog):
    centre = song_means(catalog)[1]
    ordinary = np.array([noise.bulk_p(float(m)) for m in world.music(200) @ centre])
    generic = np.array([noise.bulk_p(float(m)) for m in world.music(50, common=1.5) @ centre])
    assert (ordinary <= 2 / 51).mean() < 0.12
    assert (generic <= 2 / 51).mean() > 0.9


def test_same_input_same_bits(noise, catalog, controls):
    again = calibrate(catalog, controls)
    assert again == noise
    assert ChannelCalibration.model_validate_json(noise.model_dump_json()) == noise


def test_too_few_controls(catalog, controls):
    with pytest.raises(UsageError, match=r"19 control tracks are too few: at least 20 .*50 are recommended"):
        calibrate(catalog, controls[:19])


def test_not_finite(catalog, controls):
    controls = controls.copy()
    controls[7, 0] = np.nan
    with pytest.raises(StoreError, match="controls: row 7 is not a finite unit vector"):
        calibrate(catalog, controls)


def test_other_dimensions(catalog, controls):
    with pytest.raises(SpecificationMismatch, match="96 dimensions and control vectors 95"):
        calibrate(catalog, unit(controls[:, 1:]).astype(np.float32))


def test_fingerprints_that_are_all_alike_are_refused():
    one = unit(np.ones((30, 8))).astype(np.float32)
    with pytest.raises(StoreError, match="cannot tell songs apart"):
        calibrate(one, one)


def test_resolution_bounds_what_controls_can_say(noise):
    assert noise.resolution == pytest.approx(1 / 51)
    assert math.isclose(noise.family_wise_p(np.array([9.0]))[0], 1 / 51)
