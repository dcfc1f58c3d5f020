"""How sure a share is: it is worked out again on other draws of the query's chunks and of the controls.

Shapes: k candidates, q of them qualified, n chunks, B draws, D dimensions.
"""

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from lumina_ray.attribution.policies import Evidence, Verdict, above_noise
from lumina_ray.calibration import ALPHA
from lumina_ray.methods.kernel import RIDGE

DRAWS = 200
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
    similarity_qB = _similarities(evidence.vectors[chosen], evidence.query, chunk_vectors_nD.astype(np.float64), rng)
    cutoff_B = _critical_values(np.array(evidence.noise.control_maxima), rng)
    # The list's threshold moves with the controls as the family-wise one does.
    moved_B = cutoff_B - evidence.noise.critical(ALPHA)
    K = evidence.vectors[chosen]
    lower = cholesky(K @ K.T + RIDGE * np.eye(len(K)), lower=True)
    shares_qB = np.zeros_like(similarity_qB)
    for b, s in enumerate(similarity_qB.T):
        scores, _ = nnls(lower.T, solve_triangular(lower, s, lower=True))
        positive = s > 0
        threshold = verdict.thresholds[chosen] + moved_B[b]
        shares_qB[positive, b] = (scores * s)[positive] * above_noise(s[positive], threshold[positive])
    low[chosen], high[chosen] = np.quantile(shares_qB, _LEVELS, axis=1)
    return low, high


def _similarities(K_qD: np.ndarray, query_D: np.ndarray, chunks_nD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Float64 `[q, B]`: of songs with the query as other draws of its chunks would have made it."""
    parts_n, *_ = np.linalg.lstsq(chunks_nD.T, query_D, rcond=None)
    rest_D = query_D - parts_n @ chunks_nD
    n = len(chunks_nD)
    weights_Bn = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) * parts_n
    # The rest is at right angles to all chunks.
    norms_B = np.sqrt(rest_D @ rest_D + np.einsum("bi,ij,bj->b", weights_Bn, chunks_nD @ chunks_nD.T, weights_Bn))
    inner_qB = (K_qD @ rest_D)[:, None] + (K_qD @ chunks_nD.T) @ weights_Bn.T
    return np.divide(inner_qB, norms_B, out=np.zeros_like(inner_qB), where=norms_B > 0)


def _critical_values(maxima_C: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Float64 `[B]`: the family-wise threshold under other draws of the controls."""
    drawn_BC = np.sort(maxima_C[rng.integers(len(maxima_C), size=(DRAWS, len(maxima_C)))], axis=1)[:, ::-1]
    return drawn_BC[:, int(ALPHA * (len(maxima_C) + 1) + 1e-9) - 1]
