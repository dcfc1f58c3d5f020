import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.attribution.evidence import evidence_on_all
from lumina_ray.calibration import ALPHA, Gate, calibrate
from lumina_ray.calibration.gate import _fit_pareto, gate_of
from lumina_ray.errors import UsageError
from tests.calibration.synthetic import World, mixture


def scores(seed: int, c: int = 50, n: int = 130) -> np.ndarray:
    """Scores of controls as they are for music: of a heavier tail than normal ones, and with hubs."""
    rng = np.random.default_rng(seed)
    return rng.standard_t(5, size=(c, n)) + rng.normal(size=n)


@pytest.fixture(scope="module")
def gate() -> Gate:
    return gate_of(scores(0))


def test_family_wise_p_counts_the_controls_whose_best_score_is_as_good(gate):
    maxima = scores(0).max(axis=1)
    np.testing.assert_array_equal(gate.control_maxima, np.sort(maxima)[::-1])
    for value in (*maxima[:10], -9.0, 99.0, float(np.median(maxima)) + 1e-6):
        expected = (1 + (maxima >= value).sum()) / 51
        assert gate.family_wise_p(np.array([value]))[0] == expected
    assert gate.family_wise_p(np.array([99.0]))[0] == gate.resolution == 1 / 51


def test_single_song_p_is_the_pooled_count_rounded_upwards_by_one_percent(gate):
    pooled = scores(0).ravel()
    values = np.quantile(pooled, np.linspace(0, 1, 97)) + 1e-9
    exact = np.array([(1 + (pooled >= v).sum()) / (1 + pooled.size) for v in values])
    p = gate.p_value(values)
    assert (p >= exact - 1e-12).all()
    assert (p <= 1.011 * exact + 1e-12).all()
    assert gate.p_value(np.array([99.0, -99.0])) == pytest.approx([1 / (1 + pooled.size), 1.0])


@settings(max_examples=50)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=20))
def test_p_values_never_rise_with_the_score(values):
    gate, s = gate_of(scores(3, 25, 30)), np.sort(values)
    for p in (gate.p_value(s), gate.family_wise_p(s)):
        assert (np.diff(p) <= 0).all()
        assert ((p > 0) & (p <= 1)).all()
    assert (gate.family_wise_p(s) >= gate.resolution).all()


@pytest.mark.parametrize("n_controls", [20, 39, 50, 99])
def test_critical_value_and_p_value_agree(n_controls):
    gate = gate_of(scores(n_controls, n_controls, 40))
    critical = gate.critical(ALPHA)
    assert gate.family_wise_p(np.array([critical]))[0] > ALPHA
    assert gate.family_wise_p(np.array([np.nextafter(critical, 99)]))[0] <= ALPHA


def test_critical_value_beyond_the_controls_is_refused(gate):
    with pytest.raises(UsageError, match=r"alpha 0\.01 needs at least 99 controls, got 50"):
        gate.critical(0.01)


@pytest.mark.parametrize(("n_songs", "hubs"), [(60, 0), (60, 3), (400, 5)])
def test_false_positive_rate_holds_at_any_catalog_size_and_with_hubs_in_both_channels_together(n_songs, hubs):
    """Controls are standardised without themselves, queries by all controls: their best scores are exchangeable.

    So of queries from the same source as the controls, floor(0.05 · 51) / 51 have any song above the bar.
    """
    errors, published, queries, ranks = 0, 0.0, 0, []
    for seed in range(60):
        worlds = {c: World(np.random.default_rng(1000 + 2 * seed + i), 64) for i, c in enumerate("PM")}
        catalog = {c: world.music(n_songs) for c, world in worlds.items()}
        for c, world in worlds.items():
            catalog[c][:hubs] = world.hubs(hubs)
        noise = calibrate(catalog, {c: world.music(50) for c, world in worlds.items()})
        tracks = {c: world.music(20) for c, world in worlds.items()}
        for i in range(20):
            e = evidence_on_all(noise, catalog, {c: of[i] for c, of in tracks.items()})["P"]
            p = e.family_wise_p.min()
            errors += p <= ALPHA
            ranks.append(p)
            published += (e.z >= 1).mean() / 60 / 20
        queries += 20
    # Queries of one seed share their controls, so the binomial tolerance is widened to that of 60 independent rates.
    expected = 2 / 51
    tolerance = 4 * np.sqrt(expected * (1 - expected) / 51 / 60 + expected / queries)
    assert abs(errors / queries - expected) < tolerance
    # Not only at 5 %: a conformal p-value is uniform.
    for level in (0.2, 0.5, 0.8):
        spread = np.sqrt(level * (1 - level) * (1 / 51 / 60 + 1 / queries))
        assert abs(np.mean(np.array(ranks) <= level) - math.floor(level * 51) / 51) < 4 * spread
    assert 0.1 < published < 0.22


def test_hubs_neither_hide_true_matches_nor_take_all_false_ones():
    """Why songs are standardised: by similarity, three hubs would set the bar for everybody."""
    found = {"standardised": 0.0, "raw": 0.0}
    for seed in range(20):
        world = World(np.random.default_rng(2000 + seed), 128)
        catalog = world.music(130)
        catalog[:3] = world.hubs(3)
        noise = calibrate({"P": catalog}, {"P": world.music(50)})
        true = world.rng.integers(3, 130, size=50)
        tracks = mixture(catalog[true], world.music(50), 0.4)
        for song, track in zip(true, tracks, strict=True):
            e = evidence_on_all(noise, {"P": catalog}, {"P": track})["P"]
            found["standardised"] += (e.score[song] > e.gate.critical()) / 1000
            found["raw"] += (e.similarity[song] > e.noise.control_maxima_similarity[1]) / 1000
    assert found["standardised"] > 0.8
    assert found["standardised"] > found["raw"] + 0.2


def test_the_tail_is_an_extrapolation_only(gate):
    top = gate.control_maxima[0]
    assert gate.extrapolated_p(top) is None
    beyond = [gate.extrapolated_p(top + d) for d in (1e-6, 0.5, 2, 10)]
    assert all(0 <= p <= gate.resolution for p in beyond)
    assert beyond == sorted(beyond, reverse=True)
    of_one = scipy.stats.genpareto.sf(top + 2 - gate.tail_start, gate.tail_shape, scale=gate.tail_scale)
    assert beyond[2] == pytest.approx(130 * gate.tail_fraction * of_one, rel=1e-9)


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
    gate = gate_of(np.random.default_rng(0).normal(size=(50, 2000)))
    for z in (4.8, 5.3):
        truth = 2000 * scipy.stats.norm.sf(z)
        assert truth < gate.extrapolated_p(z) < 30 * truth


def test_q_values_are_those_of_benjamini_and_hochberg(gate):
    rng = np.random.default_rng(0)
    found = np.append(rng.choice(gate.null_values[500:], 124), [5, 6, 7, 8, 9, 9.5])
    expected = scipy.stats.false_discovery_control(gate.p_value(found))
    np.testing.assert_allclose(gate.q_values(found), expected)
    # What a search left out is no better: the q-values of the best are the same without it, and never smaller.
    best = np.sort(found)[::-1]
    np.testing.assert_allclose(gate.q_values(best[:40])[:6], np.sort(expected)[:6])
    assert (gate.q_values(best[:3]) >= np.sort(expected)[:3]).all()


@settings(max_examples=50)
@given(st.floats(1e-4, 1))
def test_value_at_is_where_p_values_become_small_enough(p):
    gate = gate_of(scores(3, 25, 30))
    value = gate.value_at(p)
    if value == math.inf:
        assert gate.p_value(np.array([99.0]))[0] > p
    else:
        assert gate.p_value(np.array([np.nextafter(value, 99)]))[0] <= p
        assert gate.p_value(np.array([np.nextafter(value, -99)]))[0] > p * 0.98 - 1e-9


def test_it_reads_back_bit_for_bit(gate):
    assert Gate.model_validate_json(gate.model_dump_json()) == gate
