"""Standard scores, against loops that follow the formulas, and hubs that must not move a bar."""

import numpy as np
import pytest

from lumina_ray.attribution.evidence import evidence_on_all
from lumina_ray.calibration import ALPHA, calibrate
from lumina_ray.calibration.standard import (
    REFERENCE_SONGS,
    Reference,
    SongNoise,
    reference_songs,
    score_controls,
    song_noise,
)
from tests.calibration.synthetic import World, mixture, unit


def score_by_hand(own_N: np.ndarray, others_CN: np.ndarray, reference: list[int]) -> np.ndarray:
    """Score a track with these similarities to songs, standardised by other tracks."""
    variances = [np.var(others_CN[:, j], ddof=1) for j in range(len(own_N))]
    typical = np.median([variances[j] for j in reference])
    u = [(own_N[j] - others_CN[:, j].mean()) / np.sqrt(variances[j] + typical) for j in range(len(own_N))]
    # Eight songs whose excesses have mean 0 and variance 1/2 are added to the reference songs.
    several = [max(u[j], -1.5) for j in reference] + [np.sqrt(0.5), -np.sqrt(0.5)] * 4
    return (np.array(u) - np.mean(several)) / np.std(several)


def test_controls_are_scored_without_themselves_and_queries_by_all():
    rng = np.random.default_rng(0)
    similarity = rng.normal(0.1, 0.2, size=(24, 30)) + rng.normal(size=30)
    reference = np.array([0, 3, 4, 9, 20, 29])
    scores = similarity.copy()
    score_controls(scores, reference)
    for i in range(24):
        by_hand = score_by_hand(similarity[i], np.delete(similarity, i, axis=0), reference.tolist())
        np.testing.assert_allclose(scores[i], by_hand, atol=1e-9)
    query = rng.normal(size=30)
    noise = song_noise(similarity, reference)
    # Any vectors that give these similarities.
    level = Reference(query[reference, None], noise.take(reference)).level(np.ones(1))
    by_hand = score_by_hand(query, similarity, reference.tolist())
    np.testing.assert_allclose(level.scores(noise.excess(query)), by_hand, atol=1e-9)
    np.testing.assert_allclose(level.similarity_at(by_hand, noise), query, atol=1e-12)


def test_no_two_reference_songs_are_alike_and_each_recording_counts_once():
    world = World(np.random.default_rng(0), 128)
    songs = world.music(40)
    copies = mixture(np.repeat(songs[7:8], 30, axis=0), world.music(30), 0.8)
    catalog = {"P": np.concatenate([songs, copies])}
    alone, with_copies = (reference_songs({"P": x}, np.arange(len(x))) for x in (songs, catalog["P"]))
    # The song itself comes first, and none of its copies is taken.
    assert set(with_copies.tolist()) <= set(range(40))
    assert len(set(with_copies.tolist()) ^ set(alone.tolist())) <= 4
    last_first = reference_songs(catalog, np.arange(70)[::-1])
    assert len(set(last_first.tolist()) & {7, *range(40, 70)}) == 1
    chosen = catalog["P"][last_first].astype(np.float64)
    assert np.triu(chosen @ chosen.T, 1).max() <= 0.5


def test_songs_of_fingerprints_that_are_all_alike_are_told_apart_by_what_is_left():
    common = unit(np.ones(64))
    X = unit(3 * common + unit(np.random.default_rng(0).normal(size=(100, 64)))).astype(np.float32)
    assert (X @ X.T).min() > 0.8
    assert len(reference_songs({"P": X}, np.arange(100))) > 60


def test_large_catalogs_have_a_bounded_reference():
    X = unit(np.random.default_rng(0).normal(size=(2000, 256))).astype(np.float32)
    assert len(reference_songs({"P": X}, np.arange(2000))) == REFERENCE_SONGS
    assert reference_songs({"P": np.repeat(X[:1], 20_000, axis=0)}, np.arange(20_000)).tolist() == [0]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_small_catalog_has_scores_too_and_finds_its_own_songs(n: int):
    world = World(np.random.default_rng(n), 96)
    catalog = {"P": world.music(n)}
    noise = calibrate(catalog, {"P": world.music(50)})
    e = evidence_on_all(noise, catalog, {"P": catalog["P"][0]})["P"]
    assert np.isfinite(e.score).all()
    assert e.family_wise_p[0] <= ALPHA
    unrelated = [evidence_on_all(noise, catalog, {"P": x})["P"].family_wise_p.min() for x in world.music(100)]
    assert np.mean(np.array(unrelated) <= ALPHA) < 0.15


def bars(noise, catalog, queries, n):
    """The similarity from which each of the first n songs stands out, for each query, in each channel."""
    out = []
    for i in range(len(queries["P"])):
        judged = evidence_on_all(noise, catalog, {c: of[i] for c, of in queries.items()})
        out.append([e.similarity_at(e.gate.critical())[:n] for e in judged.values()])
    return np.array(out)


def hissing(worlds, n: int, hiss, weight: float):
    """Music with some hiss in it, the same hiss in all of it."""
    return {c: mixture(np.repeat(hiss[c][None], n, axis=0), world.music(n), weight) for c, world in worlds.items()}


def test_a_song_that_is_alike_to_every_control_moves_no_bar():
    """A song of hiss, where controls hiss and no other song does: by similarity it is every control's best match."""
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate({"P": 256, "M": 192}.items())}
    hiss = {c: world.noise(1)[0] for c, world in worlds.items()}
    catalog = {c: world.music(130) for c, world in worlds.items()}
    controls = hissing(worlds, 60, hiss, 0.4)
    hub = hissing(worlds, 1, hiss, 0.9)
    with_hub = {c: np.concatenate([catalog[c], hub[c]]) for c in catalog}
    before, after = calibrate(catalog, controls), calibrate(with_hub, controls)
    for c in catalog:
        raw = [np.array(noise.channels[c].control_maxima_similarity)[2] for noise in (before, after)]
        # By similarity the hub is the best match of every control, and its bar would be everybody's.
        assert raw[1] - raw[0] > 0.1
    queries = {c: np.concatenate([worlds[c].music(20), hissing(worlds, 20, hiss, 0.4)[c]]) for c in worlds}
    moved = bars(after, with_hub, queries, 130) - bars(before, catalog, queries, 130)
    assert np.abs(moved).max() <= 0.02


def test_the_spread_of_a_song_is_never_less_than_is_typical():
    similarity = np.random.default_rng(0).normal(size=(50, 40))
    similarity[:, 0] *= 1e-3
    noise = song_noise(similarity, np.arange(40))
    assert noise.spread[0] > 0.9
    assert isinstance(noise.take(np.array([3])), SongNoise)
