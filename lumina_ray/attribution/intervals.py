"""How sure a share is: it is worked out again on other draws of the query's chunks and of the controls.

Shapes: k candidates, q of them qualified, n chunks, B draws, D dimensions.
U of the draws of chunks are different ones: a query of two chunks has three.
"""

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import nnls

from lumina_ray.attribution.policies import Evidence, Verdict, above_noise
from lumina_ray.calibration import ALPHA
from lumina_ray.methods.kernel import RIDGE

DRAWS = 200
# Songs that may qualify. Each draw is a regression on all of them, which takes milliseconds for these and seconds for
# thousands.
MAX_SONGS = 512
_LEVELS = (0.025, 0.975)


def share_intervals(
    evidence: Evidence, verdict: Verdict, chunk_vectors_nD: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Central 95 % of each share over draws, of policy `calibrated`; the songs that qualified stay the same.

    Chunks and controls are drawn with replacement (Efron 1979). A query of one chunk has no other draws of it, and its
    intervals tell of the controls alone. What is not in them: another model, other music by the same hand, and whether
    a share means what it is taken to mean.

    Args:
        chunk_vectors_nD: unit vectors of the query's chunks. The query is taken for a sum of their multiples and a
            rest that stays as it is: no rest for fingerprints that are linear in the gradient.

    Returns:
        Lower and upper ends, float64 `[k]`; 0 where a song did not qualify.
    """
    low, high = np.zeros(len(verdict.shares)), np.zeros(len(verdict.shares))
    chosen = np.flatnonzero(verdict.qualified)
    if not chosen.size:
        return low, high
    rng = np.random.default_rng(seed)
    K = evidence.vectors[chosen]
    similarity_qU, draw_B = _similarities(K, evidence.query, chunk_vectors_nD.astype(np.float64), rng)
    cutoff_B = _critical_values(np.array(evidence.noise.control_maxima), rng)
    # The list's threshold moves with the controls as the family-wise one does.
    thresholds_qB = verdict.thresholds[chosen, None] + (cutoff_B - evidence.noise.critical(ALPHA))
    similarity_qB = similarity_qU[:, draw_B]
    explained_qB = (_nonnegative_scores(K, similarity_qU) * similarity_qU)[:, draw_B]
    shares_qB, positive = np.zeros_like(similarity_qB), similarity_qB > 0
    shares_qB[positive] = explained_qB[positive] * above_noise(similarity_qB[positive], thresholds_qB[positive])
    low[chosen], high[chosen] = np.quantile(shares_qB, _LEVELS, axis=1)
    return low, high


def _nonnegative_scores(K_qD: np.ndarray, inner_qU: np.ndarray) -> np.ndarray:
    """What `nonnegative_kernel_scores` gives for queries of these inner products with the songs, float64 `[q, U]`."""
    lower = cholesky(K_qD @ K_qD.T + RIDGE * np.eye(len(K_qD)), lower=True)
    scores_qU = cho_solve((lower, True), inner_qU)
    reduced_qU = solve_triangular(lower, inner_qU, lower=True)
    # Where the plain regression has no negative score, it is the answer.
    for u in np.flatnonzero((scores_qU < 0).any(axis=0)):
        scores_qU[:, u], _ = nnls(lower.T, reduced_qU[:, u])
    return scores_qU


def _similarities(
    K_qD: np.ndarray, query_D: np.ndarray, chunks_nD: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Of songs with the query as other draws of its chunks would have made it.

    Returns:
        float64 `[q, U]`, and which of them is each draw's, int64 `[B]`.
    """
    parts_n, *_ = np.linalg.lstsq(chunks_nD.T, query_D, rcond=None)
    rest_D = query_D - parts_n @ chunks_nD
    n = len(chunks_nD)
    counts_Un, draw_B = np.unique(rng.multinomial(n, np.full(n, 1 / n), size=DRAWS), axis=0, return_inverse=True)
    weights_Un = counts_Un * parts_n
    # The rest is at right angles to all chunks.
    norms_U = np.sqrt(rest_D @ rest_D + np.einsum("ui,ij,uj->u", weights_Un, chunks_nD @ chunks_nD.T, weights_Un))
    inner_qU = (K_qD @ rest_D)[:, None] + (K_qD @ chunks_nD.T) @ weights_Un.T
    return np.divide(inner_qU, norms_U, out=np.zeros_like(inner_qU), where=norms_U > 0), draw_B


def _critical_values(maxima_C: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Float64 `[B]`: the family-wise threshold under other draws of the controls."""
    drawn_BC = np.sort(maxima_C[rng.integers(len(maxima_C), size=(DRAWS, len(maxima_C)))], axis=1)[:, ::-1]
    return drawn_BC[:, int(ALPHA * (len(maxima_C) + 1) + 1e-9) - 1]
