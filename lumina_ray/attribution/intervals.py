"""How sure a share is: it is worked out again on other draws of the query's chunks and of the controls.

Shapes: k candidates, q of them qualified, n chunks, B draws, D dimensions.
U draws of chunks differ from each other: a query of two chunks has three different ones.
"""

from functools import lru_cache

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from lumina_ray.attribution.evidence import Evidence
from lumina_ray.attribution.policies import Verdict, above_noise
from lumina_ray.calibration import ALPHA, bar_rank
from lumina_ray.methods.kernel import RIDGE, nonnegative_solution

DRAWS = 200
# Songs that may qualify. Each draw is a regression on all of them, which takes milliseconds for these and seconds for
# thousands.
MAX_SONGS = 512
_LEVELS = (0.025, 0.975)


def share_intervals(
    evidence: Evidence, verdict: Verdict, chunk_vectors_nD: np.ndarray
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
    if not verdict.groups:
        return low, high
    chosen = np.array([group.representative for group in verdict.groups])
    gate, K = evidence.gate, evidence.vectors[chosen]
    counts_Un, draw_B, critical_B = _draws(
        len(chunk_vectors_nD), gate.n_controls, bar_rank(gate.n_controls, ALPHA, gate.guarantee)
    )
    similarity_qU = _similarities(K, evidence.query, chunk_vectors_nD.astype(np.float64), counts_Un)
    # The list's threshold moves with the controls as the family-wise one does.
    moved_B = np.array(gate.control_maxima)[critical_B] - gate.critical(ALPHA)
    thresholds_qB = verdict.thresholds[chosen, None] + np.outer(evidence.threshold_slope[chosen], moved_B)
    similarity_qB = similarity_qU[:, draw_B]
    explained_qB = (_nonnegative_scores(K, similarity_qU) * similarity_qU)[:, draw_B]
    shares_qB, positive = np.zeros_like(similarity_qB), similarity_qB > 0
    shares_qB[positive] = explained_qB[positive] * above_noise(similarity_qB[positive], thresholds_qB[positive])
    for group, ends in zip(verdict.groups, np.quantile(shares_qB, _LEVELS, axis=1).T, strict=True):
        low[group.members], high[group.members] = (group.parts * end for end in ends)
    return low, high


def _nonnegative_scores(K_qD: np.ndarray, inner_qU: np.ndarray) -> np.ndarray:
    """Non-negative kernel scores of U queries, given by their inner products with the songs, float64 `[q, U]`."""
    gram = K_qD @ K_qD.T + RIDGE * np.eye(len(K_qD))
    scores_qU = cho_solve(cho_factor(gram, lower=True), inner_qU)
    # Where the plain regression has no negative score, it is the answer.
    for u in np.flatnonzero((scores_qU < 0).any(axis=0)):
        scores_qU[:, u] = nonnegative_solution(gram, inner_qU[:, u])
    return scores_qU


@lru_cache(maxsize=64)
def _draws(n_chunks: int, n_controls: int, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of chunks and controls; equal for all queries with as many chunks.

    Args:
        rank: of the control whose best match is the family-wise threshold, 1 for the best.

    Returns:
        How often each chunk is in a draw, int64 `[U, n]`; which of these is each draw's, int64 `[B]`; and, of controls
        by their best matches, descending, the one whose is the draw's family-wise threshold, int64 `[B]`.
    """
    rng = np.random.default_rng(0)
    chance_n = np.full(n_chunks, 1 / n_chunks)
    counts_Un, draw_B = np.unique(rng.multinomial(n_chunks, chance_n, size=DRAWS), axis=0, return_inverse=True)
    drawn_BC = np.sort(rng.integers(n_controls, size=(DRAWS, n_controls)), axis=1)
    return counts_Un, draw_B, drawn_BC[:, rank - 1]


def _similarities(K_qD: np.ndarray, query_D: np.ndarray, chunks_nD: np.ndarray, counts_Un: np.ndarray) -> np.ndarray:
    """Similarity of songs to the query that each draw of its chunks makes, float64 `[q, U]`."""
    parts_n, *_ = np.linalg.lstsq(chunks_nD.T, query_D, rcond=None)
    rest_D = query_D - parts_n @ chunks_nD
    weights_Un = counts_Un * parts_n
    # The rest is at right angles to all chunks.
    norms_U = np.sqrt(rest_D @ rest_D + np.einsum("ui,ij,uj->u", weights_Un, chunks_nD @ chunks_nD.T, weights_Un))
    inner_qU = (K_qD @ rest_D)[:, None] + (K_qD @ chunks_nD.T) @ weights_Un.T
    return np.divide(inner_qU, norms_U, out=np.zeros_like(inner_qU), where=norms_U > 0)
