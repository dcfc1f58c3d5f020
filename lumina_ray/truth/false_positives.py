"""False positives: policies call songs influential for controls that no model and no calibration has seen.

N songs, C controls, D dimensions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lumina_ray.attribution.evidence import Evidence
from lumina_ray.attribution.policies import POLICIES
from lumina_ray.calibration import calibrate, song_means
from lumina_ray.truth.measures import Estimate, mean

SIZES = (100, 1_000, 10_000, 100_000)
# Halves of the controls, one to calibrate and one to be mistaken about.
_DRAWS = 10


@dataclass(frozen=True)
class FalsePositives:
    """False positives of one policy at one size of catalog.

    Attributes:
        simulated: whether songs and controls were drawn from a normal distribution with the real ones' covariance.
        any_song: fraction of unrelated queries that at least one song qualifies for.
        songs: that qualify for an unrelated query, on average.
    """

    policy: str
    n_songs: int
    simulated: bool
    any_song: Estimate
    songs: Estimate


def false_positives(
    catalog_ND: np.ndarray, controls_CD: np.ndarray, sizes: tuple[int, ...] = SIZES, seed: int = 0
) -> list[FalsePositives]:
    """Measure every policy at the catalog's own size and at simulated sizes.

    Args:
        catalog_ND, controls_CD: float32 unit vectors.
    """
    rng = np.random.default_rng(seed)
    catalog_ND, controls_CD = _in_their_span(catalog_ND, controls_CD)
    measured = _counts([(catalog_ND, controls_CD)] * _DRAWS, rng)
    # A control is one observation, however often it was held out.
    out = [_summary(name, len(catalog_ND), False, of) for name, of in measured.items()]
    for n in sizes:
        drawn = ((_draw(catalog_ND, n, rng), _draw(controls_CD, len(controls_CD), rng)) for _ in range(_DRAWS))
        # Every draw has controls of its own, and one calibration errs the same way for all that it is used on.
        out += [_summary(name, n, True, of.T) for name, of in _counts(drawn, rng).items()]
    return out


def _counts(worlds: Iterable[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Count songs that each policy qualifies for each control: float64 `[draws, C]`, NaN where it was not held out."""
    out: dict[str, list[np.ndarray]] = {policy: [] for policy in POLICIES}
    for catalog_ND, controls_CD in worlds:
        order = rng.permutation(len(controls_CD))
        held_out, known = np.array_split(order, 2)
        noise = calibrate(catalog_ND, controls_CD[known])
        means_N, _ = song_means(catalog_ND)
        catalog = catalog_ND.astype(np.float64)
        for name in POLICIES:
            out[name].append(np.full(len(controls_CD), np.nan))
        for control in held_out:
            query_D = controls_CD[control].astype(np.float64)
            evidence = Evidence(catalog @ query_D, means_N, catalog, query_D, noise)
            for name, policy in POLICIES.items():
                out[name][-1][control] = policy.qualify(evidence).sum()
    return {name: np.array(counts) for name, counts in out.items()}


def _summary(policy: str, n_songs: int, simulated: bool, counts: np.ndarray) -> FalsePositives:
    """Summarise counts of qualified songs, NaN where none could qualify; independent observations are columns."""
    judged = ~np.isnan(counts)
    columns = judged.any(axis=0)
    n = judged.sum(axis=0)[columns]
    any_song = (counts > 0).sum(axis=0)[columns] / n
    songs = np.nansum(counts, axis=0)[columns] / n
    return FalsePositives(policy, n_songs, simulated, mean(any_song), mean(songs))


def _in_their_span(catalog_ND: np.ndarray, controls_CD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn vectors into as few dimensions as they span together; no inner product changes."""
    both = np.concatenate([catalog_ND, controls_CD]).astype(np.float64)
    _, _, basis_rD = np.linalg.svd(both, full_matrices=False)
    turned = (both @ basis_rD.T).astype(np.float32)
    return turned[: len(catalog_ND)], turned[len(catalog_ND) :]


def _draw(vectors_ND: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw float32 `[n, D]` unit vectors: first normal with the mean and covariance of others, then scaled."""
    centre_D = vectors_ND.mean(axis=0, dtype=np.float64)
    spread_ND = (vectors_ND - centre_D) / np.sqrt(len(vectors_ND) - 1)
    drawn_nD = centre_D + rng.standard_normal((n, len(vectors_ND))) @ spread_ND
    return (drawn_nD / np.linalg.norm(drawn_nD, axis=1, keepdims=True)).astype(np.float32)
