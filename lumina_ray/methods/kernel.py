"""Kernel regression of a query on its candidates. Shapes: k candidates, D fingerprint dimensions."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import nnls

RIDGE = 0.01


def kernel_scores(K: np.ndarray, g: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """`(K Kᵀ + λI)⁻¹ K g`: how much of each candidate, jointly, makes up the query.

    Near-duplicates share the credit that one of them would have had, instead of each taking all of it. A score is
    signed and has no bound; over the top-k it approximates the regression on the whole catalog.

    Args:
        K: `[k, D]` candidate fingerprints.
        g: `[D]` the query's.
        ridge: λ > 0.

    Returns:
        Float64 `[k]`.

    Raises:
        ValueError: shapes that do not fit, or λ that is not positive.
    """
    gram, inner = _normal_equations(K, g, ridge)
    # Transposed, as LAPACK would have it, and the same: of the other order, SciPy makes a copy.
    return cho_solve(cho_factor(gram.T, lower=True, overwrite_a=True), inner) if len(gram) else inner


def nonnegative_kernel_scores(K: np.ndarray, g: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """The same regression among non-negative scores: `argmin_{a ≥ 0} ‖g − Kᵀa‖² + λ‖a‖²`, float64 `[k]`.

    λ > 0 makes it strictly convex: the answer is unique, and equal candidates get equal scores.
    """
    gram, inner = _normal_equations(K, g, ridge)
    if not len(gram):
        return inner
    # With K Kᵀ + λI = L Lᵀ the objective is ‖Lᵀa − L⁻¹Kg‖² up to a constant: k rows instead of D + k.
    lower, _ = cho_factor(gram, lower=True)
    lower = np.tril(lower)
    scores, _ = nnls(lower.T, solve_triangular(lower, inner, lower=True))
    return scores


def _normal_equations(K: np.ndarray, g: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    K, g = np.asarray(K, dtype=np.float64), np.asarray(g, dtype=np.float64)
    if K.ndim != 2 or g.shape != K.shape[1:]:
        raise ValueError(f"K must be [k, D] and g [D], got {K.shape} and {g.shape}")
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, got {ridge}")
    gram = K @ K.T
    gram[np.diag_indices(len(gram))] += ridge
    return gram, K @ g
