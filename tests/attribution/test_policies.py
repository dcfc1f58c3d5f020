from dataclasses import replace
from functools import cache

import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.attribution.evidence import Evidence, evidence_on_all
from lumina_ray.attribution.policies import POLICIES, calibrated, v7, v7_confidence, v7_lip, v8
from lumina_ray.calibration import ALPHA, CatalogNoise, calibrate
from tests.calibration.synthetic import World, mixture, unit


def channel(seed: int, n: int = 97, dims: int = 64):
    world = World(np.random.default_rng(seed), dims)
    catalog = world.music(n)
    return world, catalog, calibrate({"P": catalog}, {"P": world.music(50)})


KNOWN = cache(channel)


def evidence(catalog: np.ndarray, query: np.ndarray, noise: CatalogNoise) -> Evidence:
    return evidence_on_all(noise, {"P": catalog}, {"P": query})["P"]


def some(e: Evidence, rows: list[int], **changed) -> Evidence:
    """Evidence on some of the candidates, in this order."""
    of = np.array(rows)
    taken = {"similarity": e.similarity[of], "score": e.score[of], "vectors": e.vectors[of]}
    taken |= {"song_noise": e.song_noise.take(of), "near": lambda places: e.near(of[places])[:, of]}
    return replace(e, **(taken | changed))


def with_z(z: list[float]) -> Evidence:
    """Evidence whose similarities have these z-scores."""
    _, catalog, noise = channel(0)
    e = evidence(catalog, catalog[0], noise)
    return some(e, list(range(len(z))), similarity=e.noise.mean + e.noise.std * np.array(z))


PUBLISHED_Z = [3.2, 2.1, 1.8, 1.3, *np.linspace(0.99, -2, 93)]


def test_v7_published_worked_example():
    verdict = v7(with_z(PUBLISHED_Z))
    assert [f"{share:.1%}" for share in verdict.shares[:4]] == ["71.4%", "17.8%", "9.4%", "1.3%"]
    assert not verdict.shares[4:].any()
    assert verdict.unattributed == 0
    # Confidence is another rule than share: only z ≥ 1.96 is 95 %.
    assert verdict.qualified.tolist() == [True, True] + [False] * 95


def test_v7_confidence_and_lip_against_fifty_digits():
    z = np.array([-1.0, 0.0, 1.0, 1.3, 1.9599, 1.96, 2.1, 3.2])
    with mpmath.workdps(50):
        confidence = [float(mpmath.erf(mpmath.mpf(x) / mpmath.sqrt(2))) for x in z.tolist()]
        lip = [float((mpmath.tanh(mpmath.mpf(x) / 2) + 1) / 2 * 100) for x in z.tolist()]
    np.testing.assert_allclose(v7_confidence(z), confidence, rtol=1e-14)
    np.testing.assert_allclose((v7_lip(z) + 1) / 2 * 100, lip, rtol=1e-14)


def test_v7_qualifies_exactly_at_its_threshold():
    e = with_z([1.9599, 1.9600])
    verdict = v7(e)
    assert verdict.qualified.tolist() == [False, True]
    assert ((e.similarity >= verdict.thresholds) == verdict.qualified).all()


def test_v8_levels_and_excess():
    e = with_z([3.5, 2.5, 1.5, 0.5, -1.0])
    verdict = v8(e)
    assert verdict.levels == (
        "Definitive Proof",
        "High Confidence",
        "Qualified Influence",
        "Not qualified",
        "Not qualified",
    )
    # In units of σ the excesses are 2.5, 1.5 and 0.5.
    np.testing.assert_allclose(verdict.shares, np.array([2.5, 1.5, 0.5, 0, 0]) / 4.5, atol=1e-12)
    np.testing.assert_allclose(verdict.thresholds, e.noise.mean + e.noise.std)


@pytest.mark.parametrize("rule", [v7, v8])
def test_published_rules_attribute_nothing_when_nothing_passes(rule):
    verdict = rule(with_z([0.9, 0.0, -3.0]))
    assert not verdict.shares.any()
    assert not verdict.qualified.any()
    assert verdict.unattributed == 1


@pytest.mark.parametrize("rule", [v7, v8])
def test_negative_similarity_takes_no_share(rule):
    _, catalog, noise = channel(0)
    shifted = noise.channels["P"].model_copy(update={"mean": -0.9, "std": 0.1})
    e = some(evidence(catalog, catalog[0], noise), [0, 1], similarity=np.array([-0.2, 0.3]), noise=shifted)
    assert rule(e).shares.tolist() == [0.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100), st.floats(0, 1), st.sampled_from(sorted(POLICIES)))
def test_shares_and_remainder_add_up_to_one(seed, weight, policy):
    _, catalog, noise = KNOWN(seed % 5)
    query = mixture(catalog[seed % 97], World(np.random.default_rng(seed), 64).music(1)[0], weight)
    verdict = POLICIES[policy].judge(evidence(catalog, query, noise))
    assert np.array_equal(POLICIES[policy].qualify(evidence(catalog, query, noise)), verdict.qualified)
    assert verdict.shares.sum() + verdict.unattributed == pytest.approx(1, abs=1e-12)
    assert (verdict.shares >= 0).all()
    assert 0 <= verdict.unattributed <= 1
    if policy == "calibrated":
        assert (verdict.shares <= verdict.explained + 1e-12).all()
        assert not verdict.shares[~verdict.qualified].any()


def test_a_song_below_zero_similarity_is_listed_by_no_rate_however_far_above_its_own_noise_it_is():
    _, catalog, noise = channel(0)
    e = evidence(catalog, catalog[0], noise)
    e = some(e, [0, 1, 2], similarity=np.array([0.9, -0.1, 0.2]), score=np.array([9.0, 20.0, 3.0]))
    without = some(e, [0, 2]).q_values
    assert e.q_values[1] == 1
    np.testing.assert_array_equal(e.q_values[[0, 2]], without)


def test_calibrated_share_of_one_song_is_its_skill_over_noise():
    world, catalog, noise = channel(1)
    query = mixture(catalog[5], world.music(1)[0], 0.7)
    e = evidence(catalog, query, noise)
    e = some(e, [5])
    verdict = calibrated(e)
    s, t = float(e.similarity[0]), float(verdict.thresholds[0])
    assert verdict.qualified.all()
    assert verdict.shares[0] == pytest.approx((s**2 - t**2) / (1 - t**2) / 1.01, rel=1e-6)


def test_calibrated_gives_the_songs_own_recording_nearly_everything():
    _, catalog, noise = channel(2)
    verdict = calibrated(evidence(catalog, catalog[40], noise))
    assert verdict.shares.argmax() == 40
    assert verdict.shares[40] > 0.9
    assert verdict.levels[40] == "Above every control"


def test_calibrated_share_rises_with_the_songs_part_in_the_query():
    world, catalog, noise = channel(3, dims=256)
    other = world.music(1)[0]
    shares = [
        calibrated(evidence(catalog, mixture(catalog[7], other, w), noise)).shares[7] for w in np.linspace(0, 1, 21)
    ]
    assert shares[0] == 0
    assert (np.diff(shares) >= -1e-9).all()
    assert shares[-1] > 0.9


def test_calibrated_duplicates_share_what_one_would_have_had():
    world, catalog, noise = channel(4)
    query = mixture(catalog[7], world.music(1)[0], 0.6)
    one = calibrated(evidence(catalog, query, noise))
    e = evidence(catalog, query, noise)
    doubled = some(e, [*range(97), 7])
    two = calibrated(doubled)
    assert two.shares[7] == pytest.approx(two.shares[-1], rel=1e-6)
    # They are one song to the list, whose threshold stays where it was.
    assert two.shares[7] + two.shares[-1] == pytest.approx(one.shares[7], rel=1e-9)
    e8 = v8(doubled)
    assert e8.shares[7] == e8.shares[-1]


def test_a_query_a_little_longer_than_one_is_not_shared_out_twice():
    """Clients hand in vectors of a length of 1 to a thousandth; scores of many copies add up to its square."""
    _, catalog, noise = channel(3)
    same = np.append(np.arange(len(catalog)), [0] * 40)
    e = some(evidence(catalog, 1.0009 * catalog[0], noise), same.tolist())
    verdict = calibrated(e)
    assert verdict.qualified[same == 0].all()
    assert 0.98 < verdict.shares.sum() <= 1
    assert verdict.unattributed >= 0


def test_calibrated_splits_a_mixture_and_leaves_the_rest():
    world, catalog, noise = channel(5, n=400, dims=256)
    query = unit(0.6 * catalog[3] + 0.6 * catalog[60] + 0.6 * world.noise(1)[0])
    verdict = calibrated(evidence(catalog, query, noise))
    assert {3, 60} <= set(np.flatnonzero(verdict.qualified))
    assert set(np.argsort(-verdict.shares)[:2]) == {3, 60}
    assert 1 / 3 < verdict.unattributed < 0.9


def test_calibrated_false_positives_stay_below_alpha_where_v8_has_them_for_everyone():
    qualified: dict[str, list[bool]] = {"calibrated": [], "v8": [], "v7": []}
    per_song = []
    for seed in range(40):
        world, catalog, noise = channel(300 + seed)
        for query in world.music(25):
            e = evidence(catalog, query, noise)
            for policy, found in qualified.items():
                verdict = POLICIES[policy].judge(e)
                found.append(bool(verdict.qualified.any()))
                if policy == "v8":
                    per_song.append(verdict.qualified.mean())
    rate = np.mean(qualified["calibrated"])
    assert rate <= ALPHA + 4 * np.sqrt(ALPHA * (1 - ALPHA) / 51 / 40 + ALPHA / 1000)
    assert np.mean(qualified["v8"]) > 0.85
    assert np.mean(qualified["v7"]) > 0.4
    assert np.mean(per_song) == pytest.approx(0.16, abs=0.04)


def test_a_list_is_benjamini_and_hochbergs_once_one_song_stands_out_and_empty_before():
    world, catalog, noise = channel(6, n=400)
    for weights in ([0.5, 0.4, 0.3, 0.25], [0.1, 0.1]):
        parts = sum(w * song for w, song in zip(weights, catalog[:4], strict=False))
        e = evidence(catalog, unit(parts + 0.3 * world.music(1)[0]).astype(np.float32), noise)
        verdict = calibrated(e)
        anything = (e.family_wise_p <= ALPHA).any()
        listed = scipy.stats.false_discovery_control(e.gate.p_value(e.score)) <= ALPHA
        expected = anything & (listed | (e.family_wise_p <= ALPHA)) & (e.similarity > 0)
        assert verdict.qualified.tolist() == expected.tolist()
        # With one channel, its threshold says the same.
        assert ((e.similarity > verdict.thresholds) & (e.similarity > 0) & anything).tolist() == expected.tolist()


def test_channels_are_judged_together_and_shared_out_each_by_itself():
    worlds = {c: World(np.random.default_rng(7 + i), 64) for i, c in enumerate("PM")}
    catalog = {c: world.music(97) for c, world in worlds.items()}
    noise = calibrate(catalog, {c: world.music(50) for c, world in worlds.items()})
    # Like song 3 in P alone; and like song 5 in both, by less than either channel would show by itself.
    for song, weights, together in ((3, {"P": 0.9, "M": 0.0}, True), (5, {"P": 0.45, "M": 0.45}, True)):
        query = {c: mixture(catalog[c][song], worlds[c].music(1)[0], w) for c, w in weights.items()}
        judged = evidence_on_all(noise, catalog, query)
        np.testing.assert_array_equal(judged["P"].score, judged["M"].score)
        alone = {c: evidence_on_all(noise, catalog, {c: query[c]})[c] for c in query}
        np.testing.assert_allclose(judged["P"].score, (alone["P"].score + alone["M"].score) / 2, atol=1e-12)
        verdicts = {c: calibrated(e) for c, e in judged.items()}
        assert all(verdicts[c].qualified[song] == (judged[c].similarity[song] > 0) for c in judged) == together
        for c, verdict in verdicts.items():
            above = judged[c].similarity[song] > verdict.thresholds[song]
            assert (verdict.shares[song] > 0) == (verdict.qualified[song] and above)
