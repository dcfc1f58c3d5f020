"""Stability of shares when the query's chunks and the controls are drawn again, for copies whose song is known.

N songs, C controls, Q copies, n chunks of a copy, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.attribution.evidence import evidence_on_all
from lumina_ray.attribution.intervals import share_intervals
from lumina_ray.attribution.policies import calibrated
from lumina_ray.calibration import calibrate
from lumina_ray.truth.measures import Estimate, mean
from lumina_ray.vocabulary import Channel


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
    catalog: Mapping[Channel, np.ndarray],
    controls: Mapping[Channel, np.ndarray],
    copies: Mapping[Channel, np.ndarray],
    chunks: Mapping[Channel, Sequence[np.ndarray]],
    originals: Sequence[int],
) -> dict[Channel, Stability]:
    """Measure shares of copies of catalog songs, and the intervals of these shares, by channel.

    Args:
        catalog, controls, copies: channel → float32 unit vectors.
        chunks: channel → of each copy, float32 `[n, D]`.
        originals: the row of the catalog that each copy was made of.
    """
    noise = calibrate(catalog, controls)
    measured: dict[Channel, list[tuple[float, float]]] = {c: [] for c in catalog}
    for q, original in enumerate(originals):
        for c, evidence in evidence_on_all(noise, catalog, {c: of[q] for c, of in copies.items()}).items():
            verdict = calibrated(evidence)
            low, high = share_intervals(evidence, verdict, chunks[c][q])
            measured[c].append((verdict.shares[original], high[original] - low[original]))
    return {c: Stability(*(mean(np.array(values)) for values in zip(*of, strict=True))) for c, of in measured.items()}
