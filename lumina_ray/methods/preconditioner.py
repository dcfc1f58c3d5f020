"""Second moments of gradients, and preconditioning: multiplying stored vectors by the damped inverse second moment.

With `H = Σ_n v_n v_nᵀ + λI`, block by block, the preconditioned score of a song is `vᵀ H⁻¹ q`. A catalog stores
`H⁻¹ v` in place of `v`. The score is then a plain inner product with an unchanged query, which FAISS computes.
Where vectors are also scaled to unit length, that comes after preconditioning.

Shape legend: N = songs, D = dimensions, in B blocks of d.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

# Damping as a fraction of the mean eigenvalue: the rule of Grosse et al. 2023 (arXiv:2308.03296) for EK-FAC, and the
# default of the code that was published with GraSS for its block-wise Fisher.
DAMPING = 0.1


def second_moment(vectors_ND: np.ndarray, blocks: int) -> np.ndarray:
    """The second moment `Σ_n v_n v_nᵀ` of every block, float64 `[B, d, d]`.

    It is a sum over songs, so that second moments of pieces of a catalog add up to the whole catalog's.

    Args:
        vectors_ND: vectors of any float type.
        blocks: B, which must divide D.
    """
    pieces_BNd = _pieces(vectors_ND, blocks)
    return pieces_BNd.transpose(0, 2, 1) @ pieces_BNd


def precondition(vectors_ND: np.ndarray, moment_Bdd: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """Multiply every vector by `(moment + λI)⁻¹`, block by block: float64 `[N, D]`.

    Args:
        vectors_ND: vectors of any float type.
        moment_Bdd: second moment of the catalog that the vectors belong to.
        damping: λ as a fraction of each block's mean eigenvalue.

    Raises:
        ValueError: the damping is not positive.
    """
    _check_positive("damping", damping)
    pieces = [
        piece_Nd @ _inverse(moment_dd, damping * np.trace(moment_dd) / len(moment_dd))
        for piece_Nd, moment_dd in zip(_pieces(vectors_ND, len(moment_Bdd)), moment_Bdd, strict=True)
    ]
    return np.concatenate(pieces, axis=1)


def precondition_by_own_moment(vectors_ND: np.ndarray, blocks: int, damping: float = DAMPING) -> np.ndarray:
    """Precondition vectors by their own second moment, which is not computed where there are few vectors.

    Args:
        vectors_ND: vectors of any float type.
        blocks: number of blocks, which must divide D.
        damping: λ as a fraction of each block's mean eigenvalue.

    Returns:
        Float64 `[N, D]`, equal to `precondition` with the vectors' own `second_moment` up to rounding.

    Raises:
        ValueError: the damping is not positive.
    """
    _check_positive("damping", damping)
    pieces = [
        # The trace of the moment is the sum of all squares.
        ridge_precondition(piece_Nd, damping * float((piece_Nd**2).sum()) / piece_Nd.shape[1])
        for piece_Nd in _pieces(vectors_ND, blocks)
    ]
    return np.concatenate(pieces, axis=1)


def ridge_precondition(K: np.ndarray, ridge: float) -> np.ndarray:
    """Compute `(K Kᵀ + λI)⁻¹ K = K (KᵀK + λI)⁻¹` by the side whose matrix is smaller: float64 `[N, D]`.

    Args:
        K: `[N, D]`, of any float type.
        ridge: the λ.
    """
    K = np.asarray(K, np.float64)
    N, D = K.shape
    return _inverse(K @ K.T, ridge) @ K if N < D else K @ _inverse(K.T @ K, ridge)


def _inverse(moment: np.ndarray, ridge: float) -> np.ndarray:
    # A moment of zeros gets no damping, and so it has no inverse. The vectors are all zero then, and stay zero.
    if not moment.any():
        return np.zeros_like(moment)
    eye = np.eye(len(moment))
    return cho_solve(cho_factor(moment + ridge * eye, lower=True), eye)


def _pieces(vectors_ND: np.ndarray, blocks: int) -> np.ndarray:
    N, D = vectors_ND.shape
    return np.asarray(vectors_ND, np.float64).reshape(N, blocks, D // blocks).transpose(1, 0, 2)


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")
