"""Stability of shares when the query's stretches are drawn again, for copies whose song is known.

N songs, C controls, Q copies, n stretches of a copy, D dimensions.
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
        width: of the share's 95 % interval, on average; 1 where a copy is too short for one.
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
        chunks: channel → of each copy, float32 `[n, D]`, unit vectors of its stretches.
        originals: the row of the catalog that each copy was made of.
    """
    noise = calibrate(catalog, controls)
    measured: dict[Channel, list[tuple[float, float]]] = {c: [] for c in catalog}
    for q, original in enumerate(originals):
        of_copy = {c: of[q] for c, of in copies.items()}
        judged = evidence_on_all(noise, catalog, of_copy, stretches={c: of[q] for c, of in chunks.items()})
        for c, evidence in judged.items():
            verdict = calibrated(evidence)
            ends = share_intervals(evidence, verdict)
            measured[c].append((verdict.shares[original], ends[1][original] - ends[0][original] if ends else 1.0))
    return {c: Stability(*(mean(np.array(values)) for values in zip(*of, strict=True))) for c, of in measured.items()}
