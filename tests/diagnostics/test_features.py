"""Likeness of songs against scipy and a table of common subsequences."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from lumina_ray.diagnostics import features
from lumina_ray.diagnostics.features import (
    Likeness,
    RootsFeature,
    VectorFeature,
    group_likeness,
    sequence_likeness,
)
from lumina_ray.errors import UsageError

SEQUENCE = st.lists(st.integers(0, 4), max_size=30)


def table(one: list[int], other: list[int]) -> int:
    lengths = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if a == b else max(lengths[i, j + 1], lengths[i + 1, j])
    return int(lengths[-1, -1])


@given(SEQUENCE, SEQUENCE)
def test_the_longest_common_subsequence(one: list[int], other: list[int]) -> None:
    expected = table(one, other) / max(len(one), len(other)) if one or other else 1.0
    assert sequence_likeness(one, other) == expected


@pytest.mark.parametrize("likeness", ["reciprocal", "exponential"])
def test_vectors_against_scipy(likeness: Likeness, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values_ND = rng.standard_normal((30, 7)) * rng.uniform(0.01, 100, 7) + rng.uniform(-1000, 1000, 7)
    values_ND[3] = values_ND[4]
    distance = squareform(pdist(values_ND, "seuclidean", V=values_ND.var(axis=0)))
    median = np.median(pdist(values_ND, "seuclidean", V=values_ND.var(axis=0)))
    alike = 1 / (1 + distance) if likeness == "reciprocal" else np.exp(-distance / median)
    groups_GK = np.stack([rng.choice(30, 6, replace=False) for _ in range(50)])
    expected = [np.mean([alike[i, j] for i, j in combinations(group, 2)]) for group in groups_GK]
    measure = group_likeness(VectorFeature("timbre", "mfcc", values_ND), likeness)
    np.testing.assert_allclose(measure(groups_GK), expected, rtol=1e-9)
    assert measure(np.array([[3, 4]]))[0] == pytest.approx(1, abs=1e-5)
    # The same bits, however many groups are measured at once.
    monkeypatch.setattr(features, "_NUMBERS_AT_ONCE", 1)
    assert measure(groups_GK).tobytes() == np.concatenate([measure(groups_GK[:20]), measure(groups_GK[20:])]).tobytes()


def test_units_of_a_dimension_do_not_matter() -> None:
    values_ND = np.random.default_rng(1).standard_normal((20, 3))
    groups_GK = np.array([[0, 1, 2], [5, 6, 7]])
    of = [group_likeness(VectorFeature("a", "b", values_ND * scale))(groups_GK) for scale in (1, [1, 1000, 1e-5])]
    np.testing.assert_allclose(*of, rtol=1e-9)


def test_many_songs_have_a_median_distance_from_some_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_ND = np.random.default_rng(2).standard_normal((400, 5))
    whole = np.median(pdist(scaled_ND))
    assert features._median_distance(scaled_ND) == pytest.approx(whole, rel=0.02)
    monkeypatch.setattr(features, "_PAIRS", 5000)
    assert features._median_distance(scaled_ND) == pytest.approx(whole, rel=0.03)


def test_transposition_changes_nothing() -> None:
    tune, other = (0, 5, 7, 0, 9, 2, 7), (0, 1, 2, 3, 4)
    transposed = tuple((root + 4) % 12 for root in tune)
    measure = group_likeness(RootsFeature("harmony", "chords", (tune, transposed, other, ())))
    of = measure(np.array([[0, 1], [0, 2], [0, 3], [0, 0]]))
    assert of[0] == 1
    assert of[1] < 0.5
    assert of[2] == 0
    one, two = ([5, 2, 5, 9, 5, 5], [1, 1, 1, 1])
    assert of[1] == table(one, two) / 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VectorFeature("a", "b", np.array([[1.0], [np.nan]])), "a.b is nan for song 1, dimension 0"),
        (lambda: VectorFeature("a", "b", np.array([[1.0, 2], [1.0, 3]])), "a.b has the same value .* dimension 0"),
        (lambda: RootsFeature("a", "b", ((1,), (12, 3))), "root 12 for song 1"),
        (lambda: RootsFeature("a", "b", ((1, 3), (4, 6))), "the same for all songs"),
    ],
)
def test_features_that_tell_nothing_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        make()
