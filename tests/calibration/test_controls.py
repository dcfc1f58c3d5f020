"""What controls can promise, against simulation and closed forms."""

import numpy as np
import pytest
import scipy.stats

from lumina_ray.calibration import ALPHA, bar_rank, calibrate, controls_needed
from lumina_ray.calibration.controls import kinds_of_controls, unlikeness
from lumina_ray.calibration.gate import gate_of
from lumina_ray.errors import UsageError
from tests.calibration.synthetic import World, mixture, unit


def test_how_many_controls_a_guarantee_takes():
    assert [controls_needed(k, ALPHA, "tolerance") for k in (1, 2, 3, 5)] == [59, 93, 124, 181]
    assert [controls_needed(k, ALPHA) for k in (1, 2, 5)] == [19, 39, 99]
    # Wilks: of one above the bar, 1 − 0.95^C ≥ 0.95.
    assert 1 - 0.95**59 >= 0.95 > 1 - 0.95**58
    for n in range(1, 250):
        ranks = [bar_rank(n, ALPHA, "tolerance"), bar_rank(n, ALPHA)]
        assert ranks[0] <= ranks[1] == int(ALPHA * (n + 1) + 1e-9)
        # Of n tracks, a share of 5 % of all tracks has at least `rank` above with 95 % confidence: the binomial tail.
        assert ranks[0] == 0 or scipy.stats.binom.sf(ranks[0] - 1, n, ALPHA) >= 0.95
        assert scipy.stats.binom.sf(ranks[0], n, ALPHA) < 0.95


@pytest.mark.parametrize(("guarantee", "broken"), [("mean", (0.2, 0.6)), ("tolerance", (0.02, 0.07))])
def test_how_often_the_rate_is_above_what_is_promised_for_the_controls_that_there_are(guarantee, broken):
    rng = np.random.default_rng(0)
    over = 0
    for _ in range(1000):
        gate = gate_of(rng.normal(size=(93, 3)), guarantee)
        # Of three independent songs, the best is above the bar at this rate.
        over += 1 - scipy.stats.norm.cdf(gate.critical()) ** 3 > ALPHA
    assert broken[0] < over / 1000 < broken[1]
    assert gate.error_rate() == {"mean": 4 / 94, "tolerance": 2 / 94}[guarantee]


def test_too_few_controls_for_a_tolerance_are_refused_with_the_number_it_takes():
    world = World(np.random.default_rng(0), 32)
    catalog, controls = {"P": world.music(30)}, {"P": world.music(58)}
    with pytest.raises(UsageError, match=r"58 control.*'tolerance': it takes 59 with 1, 93 with 2, 181 with 5 above"):
        calibrate(catalog, controls, guarantee="tolerance")
    more = {"P": np.concatenate([controls["P"], world.music(1)])}
    strict, mean = (calibrate(catalog, more, guarantee=of).gates["P"] for of in ("tolerance", "mean"))
    assert strict.critical() == strict.control_maxima[0] > mean.critical() == mean.control_maxima[2]


def test_false_alarms_are_counted_by_kind():
    best = np.array([*np.linspace(0, 1, 60), *np.linspace(2, 3, 40), *np.linspace(0, 1, 5)])
    kinds = ["folk"] * 60 + ["games"] * 40 + [""] * 5
    found = {one.kind: one for one in kinds_of_controls(best, kinds)}
    bar = np.sort(best)[-5]
    assert {kind: one.n_controls for kind, one in found.items()} == {"": 5, "folk": 60, "games": 40}
    assert sum(one.above for one in found.values()) == found["games"].above == (best > bar).sum()
    # By the other kinds alone, all games alarm, which no mean over all controls shows.
    assert found["games"].above_others == 40
    assert found["folk"].above_others == 0
    assert kinds_of_controls(best[:60], kinds[:60])[0].above_others is None


def test_controls_of_another_kind_of_music_are_told_from_the_catalog():
    world = World(np.random.default_rng(0), 96)
    songs = world.music(120).astype(np.float64)
    other = mixture(np.repeat(world.noise(1), 50, axis=0), world.music(50), 0.4).astype(np.float64)
    found = unlikeness(songs, other)
    assert found.warns
    assert found.auc > 0.95
    assert found.p_value == 1 / 200


def test_controls_from_the_catalogs_source_are_not():
    warned, p_values = 0, []
    for seed in range(60):
        world = World(np.random.default_rng(seed), 48)
        found = unlikeness(world.music(60).astype(np.float64), world.music(30).astype(np.float64))
        warned += found.warns
        p_values.append(found.p_value)
    assert warned <= 2
    # A permutation test: p-values are uniform.
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_the_area_under_the_curve_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    songs, controls = unit(rng.normal(size=(25, 12))) + 0.1, unit(rng.normal(size=(22, 12)))
    of = []
    for own, others in ((songs, controls), (controls, songs)):
        nearer = [own[i] @ (np.delete(own, i, axis=0).mean(axis=0) - others.mean(axis=0)) for i in range(len(own))]
        of.append(np.array(nearer) if own is songs else -np.array(nearer))
    expected = np.mean([[s > c for c in of[1]] for s in of[0]])
    assert unlikeness(songs, controls).auc == pytest.approx(expected, abs=1e-12)
