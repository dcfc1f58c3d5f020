"""Second moments of gradients, and their damped inverse folded into stored vectors.

With `H = Σ_n v_n v_nᵀ + λI`, block by block, the preconditioned score of a song is `vᵀ H⁻¹ q`. Folding stores `H⁻¹ v`
in place of `v`: a plain inner product with an untouched query, such as FAISS computes, is then that score.
Where vectors are also to be of unit length, that comes after preconditioning.

Shapes: N songs, D dimensions in B blocks of d.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

# Of the mean eigenvalue: the rule of Grosse et al. 2023 (arXiv:2308.03296) for EK-FAC, and the default of the code that
# was published with GraSS for its block-wise Fisher.
DAMPING = 0.1


def second_moment(vectors_ND: np.ndarray, blocks: int) -> np.ndarray:
    """Float64 `[B, d, d]`: `Σ_n v_n v_nᵀ` of every block. Those of parts of a catalog add up to that of the whole."""
    pieces_BNd = _pieces(vectors_ND, blocks)
    return pieces_BNd.transpose(0, 2, 1) @ pieces_BNd


def fold(vectors_ND: np.ndarray, moment_Bdd: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """Float64 `[N, D]`: every vector times `(moment + λI)⁻¹`, λ being `damping` times a block's mean eigenvalue.

    Args:
        moment_Bdd: of the catalog that the vectors belong to.

    Raises:
        ValueError: damping that is not positive.
    """
    _check_positive("damping", damping)
    pieces = [
        piece_Nd @ _inverse(moment_dd, damping * np.trace(moment_dd) / len(moment_dd))
        for piece_Nd, moment_dd in zip(_pieces(vectors_ND, len(moment_Bdd)), moment_Bdd, strict=True)
    ]
    return np.concatenate(pieces, axis=1)


def fold_among_themselves(vectors_ND: np.ndarray, blocks: int, damping: float = DAMPING) -> np.ndarray:
    """The same with the second moment of these very vectors, which is not formed where they are few."""
    _check_positive("damping", damping)
    pieces = [
        # The trace of the moment is the sum of all squares.
        ridge_fold(piece_Nd, damping * float((piece_Nd**2).sum()) / piece_Nd.shape[1])
        for piece_Nd in _pieces(vectors_ND, blocks)
    ]
    return np.concatenate(pieces, axis=1)


def ridge_fold(K: np.ndarray, ridge: float) -> np.ndarray:
    """`(K Kᵀ + λI)⁻¹ K = K (KᵀK + λI)⁻¹`, float64 `[N, D]`, by whichever of the two is smaller."""
    K = np.asarray(K, np.float64)
    N, D = K.shape
    return _inverse(K @ K.T, ridge) @ K if N < D else K @ _inverse(K.T @ K, ridge)


def _inverse(moment: np.ndarray, ridge: float) -> np.ndarray:
    # Of nothing but zeros, there is nothing to precondition either.
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
