"""Stability of shares when the query's chunks and the controls are drawn again, for copies whose song is known.

N songs, C controls, Q copies, n chunks of a copy, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.attribution.evidence import Evidence
from lumina_ray.attribution.intervals import share_intervals
from lumina_ray.attribution.policies import calibrated
from lumina_ray.calibration import calibrate, song_means
from lumina_ray.truth.measures import Estimate, mean


@dataclass(frozen=True)
class Stability:
    """The share that policy `calibrated` gives the song that a copy was made of; 0 where it does not qualify.

    Attributes:
        share: on average over copies.
        width: of the share's 95 % interval, on average.
    """

    share: Estimate
    width: Estimate


def stability(
    catalog_ND: np.ndarray,
    controls_CD: np.ndarray,
    copies_QD: np.ndarray,
    chunks: Sequence[np.ndarray],
    originals: Sequence[int],
) -> Stability:
    """Measure shares of copies of catalog songs, and the intervals of these shares.

    Args:
        catalog_ND, controls_CD, copies_QD: float32 unit vectors.
        chunks: of each copy, float32 `[n, D]`.
        originals: the row of `catalog_ND` that each copy was made of.
    """
    noise = calibrate(catalog_ND, controls_CD)
    means_N, _ = song_means(catalog_ND)
    catalog = catalog_ND.astype(np.float64)
    shares, widths = np.zeros(len(copies_QD)), np.zeros(len(copies_QD))
    for q, (query_D, chunks_nD, original) in enumerate(zip(copies_QD, chunks, originals, strict=True)):
        evidence = Evidence(catalog @ query_D, means_N, catalog, query_D.astype(np.float64), noise)
        verdict = calibrated(evidence)
        low, high = share_intervals(evidence, verdict, chunks_nD)
        shares[q], widths[q] = verdict.shares[original], high[original] - low[original]
    return Stability(mean(shares), mean(widths))
