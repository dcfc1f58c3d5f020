import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

from lumina_ray.attribution import kernel_scores, nonnegative_kernel_scores
from lumina_ray.methods.kernel import nonnegative_solution
from tests.calibration.synthetic import unit

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([1e-3, 0.01, 1.0]))


def draw(k: int, D: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(k, D))), unit(rng.normal(size=D))


@given(sizes)
def test_equals_the_feature_space_form(size):
    k, D, seed, ridge = size
    K, g = draw(k, D, seed)
    expected = K @ np.linalg.solve(K.T @ K + ridge * np.eye(D), g)
    np.testing.assert_allclose(kernel_scores(K, g, ridge), expected, atol=1e-9)


@given(sizes)
def test_has_the_bits_of_scipys_solver(size):
    k, D, seed, ridge = size
    K, g = draw(k, D, seed)
    gram = K @ K.T
    gram[np.diag_indices(k)] += ridge
    assert np.array_equal(kernel_scores(K, g, ridge), cho_solve(cho_factor(gram, lower=True), K @ g))


def test_equals_fifty_digits():
    K, g = draw(5, 7, 0)
    with mpmath.workdps(50):
        A = mpmath.matrix(K.tolist())
        expected = mpmath.lu_solve(A * A.T + mpmath.mpf("0.01") * mpmath.eye(5), A * mpmath.matrix(g.tolist()))
        expected = [float(x) for x in expected]
    np.testing.assert_allclose(kernel_scores(K, g), expected, rtol=1e-12)


def test_one_candidate_in_closed_form():
    K, g = draw(1, 9, 1)
    assert kernel_scores(K, g)[0] == pytest.approx((K[0] @ g) / (K[0] @ K[0] + 0.01), rel=1e-12)


def test_duplicates_share_credit():
    K, g = draw(3, 20, 2)
    g = unit(g + K[0])
    single = kernel_scores(K, g)
    doubled = kernel_scores(np.vstack([K, K[0]]), g)
    assert doubled[0] == pytest.approx(doubled[3], rel=1e-9)
    assert doubled[0] == pytest.approx(single[0] / 2, rel=0.01)


@given(sizes)
def test_order_of_candidates_does_not_matter(size):
    k, D, seed, ridge = size
    K, g = draw(k, D, seed)
    p = np.random.default_rng(seed).permutation(k)
    for scores in (kernel_scores, nonnegative_kernel_scores):
        np.testing.assert_allclose(scores(K[p], g, ridge), scores(K, g, ridge)[p], atol=1e-8)


@settings(max_examples=60)
@given(sizes)
def test_nonnegative_scores_satisfy_the_optimality_conditions(size):
    k, D, seed, ridge = size
    K, g = draw(k, D, seed)
    a = nonnegative_kernel_scores(K, g, ridge)
    gradient = (K @ K.T + ridge * np.eye(k)) @ a - K @ g
    assert (a >= 0).all()
    assert (gradient >= -1e-9).all()
    np.testing.assert_allclose(gradient[a > 0], 0, atol=1e-9)
    # The candidates explain a fraction of the query's squared length.
    assert -1e-12 <= a @ (K @ g) <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 4), st.integers(0, 10_000))
def test_nonnegative_scores_are_those_of_active_sets(k, D, copies, seed):
    """The solution equals Lawson and Hanson's, with λ as additional rows, also where a song occurs several times."""
    K, g = draw(k, D, seed)
    K = np.repeat(K, copies, axis=0)
    rows = np.vstack([K.T, 0.1 * np.eye(len(K))])
    expected, _ = nnls(rows, np.append(g, np.zeros(len(K))))
    np.testing.assert_allclose(nonnegative_kernel_scores(K, g), expected, atol=1e-9)


def test_nonnegative_scores_of_songs_that_undo_each_other():
    """A regression in which exchanging all wrong songs goes round in circles."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        root = rng.normal(size=(6, 6)) * np.logspace(-3, 0, 6)
        gram, inner = root @ root.T + 1e-9 * np.eye(6), rng.normal(size=6)
        a = nonnegative_solution(gram, inner)
        gradient = gram @ a - inner
        assert (a >= 0).all()
        assert gradient.min() > -1e-6
        assert abs(a @ gradient) < 1e-6 * max(1, a.max())


def test_nonnegative_equals_unconstrained_where_that_is_positive():
    K, g = draw(3, 50, 5)
    g = unit(K.sum(axis=0) + 0.3 * g)
    assert (kernel_scores(K, g) > 0).all()
    np.testing.assert_allclose(nonnegative_kernel_scores(K, g), kernel_scores(K, g), rtol=1e-9)


def test_no_candidates_no_scores():
    for scores in (kernel_scores, nonnegative_kernel_scores):
        assert scores(np.empty((0, 4)), np.ones(4)).shape == (0,)


def test_bad_shapes_and_ridge():
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(4,\)"):
        kernel_scores(np.ones((2, 3)), np.ones(4))
    with pytest.raises(ValueError, match="ridge must be positive, got 0"):
        kernel_scores(np.ones((2, 3)), np.ones(3), ridge=0)
