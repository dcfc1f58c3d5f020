"""Every method by its name against its formula, written out once more."""

from dataclasses import replace

import numpy as np
import pytest

from lumina_ray.errors import UsageError
from lumina_ray.methods import (
    BY_VECTORS,
    METHODS,
    Features,
    Kernel,
    Method,
    attribute,
    cache,
    kernel_scores,
    second_moment,
)
from tests.methods.synthetic import features, gradients

N, Q, D = 60, 5, 24
CATALOG, QUERIES = gradients(N, D, 0, C=2), gradients(Q, D, 1, C=2)


def scores(name: str, **more: object) -> np.ndarray:
    return attribute(cache(METHODS[name], features(CATALOG, **more)), features(QUERIES))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_inner_products_and_cosines_use_the_last_checkpoint() -> None:
    np.testing.assert_allclose(scores("grad-dot"), QUERIES[1] @ CATALOG[1].T, rtol=1e-5, atol=1e-4)
    for name in ("grad-cos", "influence", "stats", "jl"):
        np.testing.assert_allclose(scores(name), unit(QUERIES[1]) @ unit(CATALOG[1]).T, atol=1e-6)


def test_tracin_adds_checkpoints_by_learning_rate() -> None:
    rates = np.array([1e-3, 2e-4])
    expected = 1e-3 * QUERIES[0] @ CATALOG[0].T + 2e-4 * QUERIES[1] @ CATALOG[1].T
    np.testing.assert_allclose(scores("tracin", learning_rates_C=rates), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="learning rates"):
        scores("tracin")


@pytest.mark.parametrize("kind", ["stats", "jl"])
def test_kernel_regression_over_all_songs_and_over_the_nearest(kind: str) -> None:
    songs, queries = unit(CATALOG[1]), unit(QUERIES[1])
    everywhere, nearest = scores(f"{kind}-kernel"), scores(f"{kind}-kernel-top-k")
    for q in range(Q):
        np.testing.assert_allclose(everywhere[q], kernel_scores(songs, queries[q]), atol=1e-4)
        top = np.argsort(-(songs @ queries[q]))[:32]
        np.testing.assert_allclose(nearest[q][top], kernel_scores(songs[top], queries[q]), atol=1e-4)
        assert (np.delete(nearest[q], top) == 0).all()


@pytest.mark.parametrize(("name", "blocks"), [("logra", 3), ("factgrass", 6)])
def test_blocks_are_preconditioned_by_their_own_fisher(name: str, blocks: int) -> None:
    expected = np.zeros((Q, N))
    for b in range(blocks):
        here = slice(b * D // blocks, (b + 1) * D // blocks)
        songs, queries = CATALOG[1][:, here], QUERIES[1][:, here]
        fisher = songs.T @ songs
        fisher += 0.1 * np.linalg.eigvalsh(fisher).mean() * np.eye(len(fisher))
        expected += queries @ np.linalg.solve(fisher, songs.T)
    np.testing.assert_allclose(scores(name, blocks=blocks), expected, rtol=1e-4, atol=1e-5)


def test_moments_of_a_larger_catalog_take_the_place_of_its_own() -> None:
    part = features(CATALOG[:, :10], blocks=3)
    whole = cache(METHODS["logra"], features(CATALOG, blocks=3))
    moments = [second_moment(CATALOG[1], 3)]
    ours = attribute(cache(METHODS["logra"], part, moments), features(QUERIES, blocks=3))
    np.testing.assert_allclose(ours, attribute(whole, features(QUERIES, blocks=3))[:, :10], rtol=1e-4, atol=1e-6)


def test_normalising_comes_after_preconditioning() -> None:
    method = replace(METHODS["logra"], normalisation="unit")
    ours = attribute(cache(method, features(CATALOG)), features(QUERIES))
    fisher = CATALOG[1].T @ CATALOG[1]
    fisher += 0.1 * np.trace(fisher) / D * np.eye(D)
    # Cosines after whitening both sides by a matrix square root.
    values, vectors = np.linalg.eigh(fisher)
    whiten = vectors @ np.diag(values**-0.5) @ vectors.T
    expected = unit(QUERIES[1] @ whiten) @ unit(CATALOG[1] @ whiten).T
    # Up to a factor of each query's own.
    ratio = ours / expected
    np.testing.assert_allclose(ratio, np.repeat(ratio[:, :1], N, axis=1), rtol=1e-4)
    assert (ratio > 0).all()


def test_tokens_are_standardised_over_the_catalog() -> None:
    rng = np.random.default_rng(4)
    songs, queries = rng.dirichlet(np.full(D, 0.3), (1, N)), rng.dirichlet(np.full(D, 0.3), (1, Q))
    songs[:, :, 5] = 0  # a code that no song has
    ours = attribute(cache(METHODS["tokens"], features(songs)), features(queries))
    seen = np.arange(D) != 5
    mean, std = songs[0][:, seen].mean(axis=0), songs[0][:, seen].std(axis=0)
    expected = unit((queries[0][:, seen] - mean) / std) @ unit((songs[0][:, seen] - mean) / std).T
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_random_scores_know_nothing_and_repeat_themselves() -> None:
    ours = scores("random")
    assert ours.shape == (Q, N)
    np.testing.assert_array_equal(ours, scores("random"))
    assert abs(np.corrcoef(ours.ravel(), (QUERIES[1] @ CATALOG[1].T).ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("name", BY_VECTORS)
def test_a_query_is_scored_the_same_alone_and_in_company(name: str) -> None:
    cached = cache(METHODS[name], features(CATALOG, learning_rates_C=np.ones(2), blocks=2))
    together = attribute(cached, features(QUERIES, blocks=2))
    assert together.shape == (Q, N)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(attribute(cached, features(QUERIES[:, :1], blocks=2))[0], together[0], atol=1e-10)


@pytest.mark.parametrize("name", sorted(set(BY_VECTORS) - {"random", "tokens"}))
def test_a_catalog_song_finds_itself(name: str) -> None:
    catalog = features(CATALOG, learning_rates_C=np.ones(2), blocks=2)
    own = attribute(cache(METHODS[name], catalog), features(CATALOG[:, :4], blocks=2))
    if METHODS[name].normalisation == "unit":
        assert own.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert (own[range(4), range(4)] > np.median(own, axis=1)).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the catalog has 1 checkpoints of 24 numbers, the queries 1 of 20"):
        attribute(cache(METHODS["grad-cos"], features(CATALOG)), features(QUERIES[:, :, :20]))
    with pytest.raises(UsageError, match="lumina scores unlearning"):
        cache(METHODS["unlearning"], features(CATALOG))
    with pytest.raises(ValueError, match="no fingerprint"):
        Method("both", "", "jl", needs_model=True)
    with pytest.raises(ValueError, match="neither a kernel"):
        Method("both", "", "jl", damping=0.1, kernel=Kernel())
    with pytest.raises(ValueError, match="need norms"):
        Features(np.zeros((1, 3, 4), np.float32), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="5 blocks do not divide 24"):
        features(CATALOG, blocks=5)
