"""Homogeneity by brute force, its null, and the arithmetic of the published genre table."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata, skew, zscore

from lumina_ray.diagnostics.features import VectorFeature, group_likeness
from lumina_ray.diagnostics.homogeneity import (
    SIGNIFICANT_Z,
    GenreRow,
    across_genres,
    count_distinct,
    genre_rows,
    normalised,
    null_of,
    of_songs,
    random_groups,
    summarise,
    top_groups,
    z_of,
)
from lumina_ray.errors import UsageError
from tests.diagnostics.published import TABLE_9, TABLE_9_TOTAL, TABLE_12

ASPECT = [
    group_likeness(VectorFeature("timbre", name, np.random.default_rng(seed).standard_normal((60, dims))))
    for seed, (name, dims) in enumerate([("mfcc", 3), ("cqt", 8)])
]


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 5))
def test_normalisation(seed: int, n: int, q: int) -> None:
    rng = np.random.default_rng(seed)
    scores_RQ = rng.integers(-3, 4, (n, q)).astype(float)
    constant_Q = np.ptp(scores_RQ, axis=0) == 0
    z_RQ, rank_RQ = normalised(scores_RQ, "z"), normalised(scores_RQ, "rank")
    assert not z_RQ[:, constant_Q].any()
    assert not rank_RQ[:, constant_Q].any()
    varied_RQ = scores_RQ[:, ~constant_Q]
    np.testing.assert_allclose(z_RQ[:, ~constant_Q], zscore(varied_RQ, axis=0), atol=1e-12)
    np.testing.assert_allclose(rank_RQ[:, ~constant_Q], zscore(rankdata(varied_RQ, axis=0), axis=0), atol=1e-12)


def test_one_outlier_leads_a_song_by_z_and_not_by_rank() -> None:
    scores_RQ = np.array([[1e6], [0.0], [0.1], [1.0], [1.1], [1.2]])
    song_R = np.array([0, 0, 0, 1, 1, 1])
    assert of_songs(normalised(scores_RQ, "z"), song_R, 2)[:, 0].argmax() == 0
    assert of_songs(normalised(scores_RQ, "rank"), song_R, 2)[:, 0].argmax() == 1


def test_rows_are_averaged_over_songs() -> None:
    rng = np.random.default_rng(0)
    song_R, values_RQ = np.array([2, 0, 1, 0, 2, 2]), rng.standard_normal((6, 3))
    expected = [values_RQ[song_R == song].mean(axis=0) for song in range(3)]
    np.testing.assert_allclose(of_songs(values_RQ, song_R, 3), expected, atol=1e-15)


def test_groups_are_the_songs_with_the_highest_scores() -> None:
    scores_NQ = np.array([[3.0, 0], [1, 0], [2, 0], [0, 0]])
    assert top_groups(scores_NQ, 2).tolist() == [[0, 2], [0, 1]]
    assert count_distinct(top_groups(scores_NQ, 2)) == 2
    assert count_distinct(np.array([[0, 1], [1, 0], [0, 1]])) == 1


@pytest.mark.parametrize("size", [1, 4, 100])
def test_groups_of_all_songs_or_of_one_are_refused(size: int) -> None:
    for call in (lambda: top_groups(np.zeros((4, 2)), size), lambda: random_groups(4, size, 10, 0)):
        with pytest.raises(UsageError, match=f"groups of {size} songs from a catalog of 4: 2 to 3"):
            call()


def test_random_groups_are_seeded_and_uniform() -> None:
    groups_GK = random_groups(10, 3, 4000, seed=0)
    assert all(len(set(group)) == 3 for group in groups_GK.tolist())
    assert (random_groups(10, 3, 4000, seed=0) == groups_GK).all()
    assert (random_groups(10, 3, 4000, seed=1) != groups_GK).any()
    counts = np.bincount(groups_GK.ravel(), minlength=10)
    assert np.abs(counts - 1200).max() < 5 * np.sqrt(4000 * 0.3 * 0.7)


def test_z_by_brute_force() -> None:
    rng = np.random.default_rng(4)
    features = [rng.standard_normal((25, 2)), rng.standard_normal((25, 5))]
    nulls, groups = random_groups(25, 4, 200, 0).tolist(), random_groups(25, 4, 6, 1).tolist()

    def likeness(x_ND: np.ndarray, group: list[int]) -> float:
        scaled_ND = x_ND / x_ND.std(axis=0)
        return float(
            np.mean([1 / (1 + np.linalg.norm(scaled_ND[i] - scaled_ND[j])) for i, j in combinations(group, 2)])
        )

    h_null, h = np.zeros(200), np.zeros(6)
    for x_ND in features:
        of_null = np.array([likeness(x_ND, group) for group in nulls])
        h_null += (of_null - of_null.mean()) / of_null.std() / 2
        h += (np.array([likeness(x_ND, group) for group in groups]) - of_null.mean()) / of_null.std() / 2
    measures = [group_likeness(VectorFeature("a", str(i), x_ND)) for i, x_ND in enumerate(features)]
    null = null_of(measures, np.array(nulls))
    np.testing.assert_allclose(z_of(measures, null, np.array(groups)), (h - h_null.mean()) / h_null.std(), atol=1e-9)
    z_null = z_of(measures, null, np.array(nulls))
    assert z_null.mean() == pytest.approx(0, abs=1e-9)
    assert z_null.std() == pytest.approx(1)
    assert null.skew == pytest.approx(skew(h_null), abs=1e-9)
    assert null.significant == np.mean(z_null > SIGNIFICANT_Z)


def test_random_groups_have_no_homogeneity_and_like_songs_have() -> None:
    rng = np.random.default_rng(6)
    cluster = np.repeat(np.arange(6), 20)
    values_ND = rng.standard_normal((6, 4))[cluster] * 3 + rng.standard_normal((120, 4))
    measures = [group_likeness(VectorFeature("timbre", "mfcc", values_ND))]
    null = null_of(measures, random_groups(120, 5, 1000, 0))
    others = random_groups(120, 5, 400, 7)
    found = summarise(z_of(measures, null, others), others)
    assert found.low < 0 < found.high
    assert found.significant == pytest.approx(null.significant, abs=0.04)
    alike = np.stack([rng.choice(np.flatnonzero(cluster == i % 6), 5, replace=False) for i in range(50)])
    assert summarise(z_of(measures, null, alike), alike).low > 2


def test_equal_groups_are_drawn_together() -> None:
    """One collapsed group is one observation, however many queries share it."""
    groups_QK = np.repeat(np.array([[0, 1], [2, 3]]), 50, axis=0)
    z_Q = np.repeat([1.0, 3.0], 50)
    found = summarise(z_Q, groups_QK)
    assert (found.mean, found.low, found.high) == (2.0, 1.0, 3.0)
    assert (found.positive, found.significant) == (1.0, 0.5)


def test_a_feature_that_cannot_stand_out_is_refused() -> None:
    square = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    measures = [group_likeness(VectorFeature("a", "b", square))]
    with pytest.raises(UsageError, match="random groups of 3 songs are equally alike"):
        null_of(measures, random_groups(4, 3, 50, 0))


def test_the_threshold_is_one_sided_5_percent() -> None:
    assert norm.sf(SIGNIFICANT_Z) == pytest.approx(0.05, abs=2e-5)


def test_genres() -> None:
    z_Q = np.array([2.0, 1.0, -1.0, 0.5, 9.0])
    rows = genre_rows(z_Q, ["rock", "rock", "folk", "folk", ""])
    assert rows == [GenreRow("rock", 2, 1.5, 1.0, 0.5), GenreRow("folk", 2, -0.25, 0.5, 0.0)]
    together = across_genres(rows)
    assert (together.n, together.mean, together.low, together.high) == (4, 0.625, -0.25, 1.5)
    assert together.spread == pytest.approx(np.std([1.5, -0.25], ddof=1))
    assert across_genres(rows[:1]).spread is None


def test_published_genre_table() -> None:
    rows = [GenreRow(genre, n, z, pos / 100, sig / 100) for genre, (n, z, pos, sig) in TABLE_12.items()]
    together = across_genres(rows)
    assert (len(rows), together.n) == (13, 3605)
    assert (round(together.mean, 3), round(together.positive, 4), round(together.significant, 4)) == (
        1.243,
        0.9377,
        0.1727,
    )
    assert (together.low, together.high) == (1.057, 1.451)
    assert together.spread == pytest.approx(0.117, abs=5e-4)
    for n, _, pos, sig in TABLE_12.values():
        for percent in (pos, sig):
            count = n * percent / 100
            assert abs(count - round(count)) <= n * 0.0005 + 1e-9


def test_published_costs_add_up() -> None:
    assert tuple(map(sum, zip(*TABLE_9.values(), strict=True))) == TABLE_9_TOTAL
