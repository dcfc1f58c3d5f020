"""Preconditioned vectors against direct solves: equal order, and equal numbers to the last useful digit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.methods import precondition, precondition_by_own_moment, ridge_precondition, second_moment
from tests.methods.synthetic import gradients


def solved(rows_ND: np.ndarray, query_D: np.ndarray, blocks: int, damping: float) -> np.ndarray:
    """Compute `Σ_b v_bᵀ (H_b + λ_b I)⁻¹ q_b` for every row, block by block, by numpy's solver and eigenvalues."""
    d = rows_ND.shape[1] // blocks
    scores = np.zeros(len(rows_ND))
    for b in range(blocks):
        here = slice(b * d, (b + 1) * d)
        H = sum(np.outer(row, row) for row in rows_ND[:, here])
        H = H + damping * np.linalg.eigvalsh(H).mean() * np.eye(d)
        scores += rows_ND[:, here] @ np.linalg.solve(H, query_D[here])
    return scores


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.integers(1, 9), st.integers(1, 4), st.sampled_from([0.01, 0.1, 1.0]), st.integers(0, 999))
def test_inner_products_with_folded_vectors_are_direct_solves(
    n: int, d: int, blocks: int, damping: float, seed: int
) -> None:
    rows_ND, query_1D = gradients(n, d * blocks, seed)[0], gradients(1, d * blocks, seed + 1)[0]
    expected = solved(rows_ND, query_1D[0], blocks, damping)
    for preconditioned_ND in (
        precondition(rows_ND, second_moment(rows_ND, blocks), damping),
        precondition_by_own_moment(rows_ND, blocks, damping),
    ):
        np.testing.assert_allclose(preconditioned_ND @ query_1D[0], expected, rtol=1e-7, atol=1e-10)


def test_plain_search_over_stored_float32_returns_the_preconditioned_order() -> None:
    import faiss

    rows_ND, queries_QD = gradients(200, 48, 1)[0], gradients(7, 48, 2)[0]
    preconditioned_ND = precondition(rows_ND, second_moment(rows_ND, 4))
    index = faiss.IndexFlatIP(48)
    index.add(preconditioned_ND.astype(np.float32))
    _, found = index.search(queries_QD.astype(np.float32), 200)
    for order, query_D in zip(found, queries_QD, strict=True):
        np.testing.assert_array_equal(order, np.argsort(-solved(rows_ND, query_D, 4, 0.1), kind="stable"))
        assert not np.array_equal(order, np.argsort(-(rows_ND @ query_D), kind="stable"))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 99))
def test_second_moments_of_parts_add_up(n: int, parts: int, seed: int) -> None:
    rows_ND = gradients(n, 12, seed)[0]
    whole = second_moment(rows_ND, 3)
    assert whole.shape == (3, 4, 4)
    added = sum(second_moment(part, 3) for part in np.array_split(rows_ND, parts))
    np.testing.assert_allclose(added, whole, atol=1e-10)
    np.testing.assert_allclose(whole[1], sum(np.outer(r, r) for r in rows_ND[:, 4:8]), atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 25), st.integers(1, 25), st.sampled_from([1e-3, 0.01, 1.0]), st.integers(0, 9999))
def test_regression_over_songs_is_ridge_in_feature_space(N: int, D: int, ridge: float, seed: int) -> None:
    K, g = gradients(N, D, seed)[0], gradients(1, D, seed + 1)[0, 0]
    over_songs = np.linalg.solve(K @ K.T + ridge * np.eye(N), K @ g)
    over_features = K @ np.linalg.solve(K.T @ K + ridge * np.eye(D), g)
    scale = max(1.0, float(abs(over_songs).max()))
    np.testing.assert_allclose(over_songs, over_features, atol=1e-7 * scale)
    np.testing.assert_allclose(ridge_precondition(K, ridge) @ g, over_features, atol=1e-7 * scale)


def test_a_block_of_zeros_stays_zero_and_damping_must_be_positive() -> None:
    rows_ND = gradients(5, 6, 3)[0]
    rows_ND[:, :3] = 0
    preconditioned_ND = precondition_by_own_moment(rows_ND, 2)
    assert not preconditioned_ND[:, :3].any()
    assert np.isfinite(preconditioned_ND).all()
    with pytest.raises(ValueError, match="damping must be positive, got 0"):
        precondition_by_own_moment(rows_ND, 2, 0)
