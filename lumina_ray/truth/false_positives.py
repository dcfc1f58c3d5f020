"""False positives: policies call songs influential for controls that no model and no calibration has seen.

N songs, C controls, D dimensions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lumina_ray.attribution.evidence import evidence_on_all
from lumina_ray.attribution.policies import POLICIES
from lumina_ray.calibration import calibrate
from lumina_ray.truth.measures import Estimate, mean
from lumina_ray.vocabulary import Channel

SIZES = (100, 1_000, 10_000)
"""Songs of simulated catalogs. One of 100 000, with 203 controls, takes ten times as long, and 10 GB of memory."""
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
    catalog: Mapping[Channel, np.ndarray],
    controls: Mapping[Channel, np.ndarray],
    sizes: tuple[int, ...] = SIZES,
    seed: int = 0,
) -> dict[Channel, list[FalsePositives]]:
    """Measure every policy at the catalog's own size and at simulated sizes, by channel.

    `calibrated` judges all channels together: whether any song qualifies for a query is the same in each, but for songs
    of negative similarity.

    Args:
        catalog, controls: channel → float32 unit vectors.
    """
    rng = np.random.default_rng(seed)
    spanned = {c: _in_their_span(catalog[c], controls[c]) for c in catalog}
    world = ({c: songs for c, (songs, _) in spanned.items()}, {c: others for c, (_, others) in spanned.items()})
    n, n_controls = (len(next(iter(of.values()))) for of in world)
    measured = _counts([world] * _DRAWS, rng)
    # A control is one observation, however often it was held out.
    out = {c: [_summary(name, n, False, of) for name, of in by_policy.items()] for c, by_policy in measured.items()}
    for n in sizes:
        drawn = ((_draw(world[0], n, rng), _draw(world[1], n_controls, rng)) for _ in range(_DRAWS))
        # Every draw has controls of its own, and one calibration errs the same way for all that it is used on.
        for c, by_policy in _counts(drawn, rng).items():
            out[c] += [_summary(name, n, True, of.T) for name, of in by_policy.items()]
    return out


_World = tuple[dict[Channel, np.ndarray], dict[Channel, np.ndarray]]


def _counts(worlds: Iterable[_World], rng: np.random.Generator) -> dict[Channel, dict[str, np.ndarray]]:
    """Count songs that each policy qualifies for each control: float64 `[draws, C]`, NaN where it was not held out."""
    out: dict[Channel, dict[str, list[np.ndarray]]] = {}
    for catalog, controls in worlds:
        n_controls = len(next(iter(controls.values())))
        held_out, known = np.array_split(rng.permutation(n_controls), 2)
        noise = calibrate(catalog, {c: vectors_CD[known] for c, vectors_CD in controls.items()})
        for c in catalog:
            for name in POLICIES:
                out.setdefault(c, {}).setdefault(name, []).append(np.full(n_controls, np.nan))
        for control in held_out:
            judged = evidence_on_all(noise, catalog, {c: vectors_CD[control] for c, vectors_CD in controls.items()})
            for c, evidence in judged.items():
                for name, policy in POLICIES.items():
                    out[c][name][-1][control] = policy.qualify(evidence).sum()
    return {c: {name: np.array(counts) for name, counts in of.items()} for c, of in out.items()}


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


def _draw(of: Mapping[Channel, np.ndarray], n: int, rng: np.random.Generator) -> dict[Channel, np.ndarray]:
    """Draw float32 `[n, D]` unit vectors: first normal with the mean and covariance of others, then scaled.

    Channels are drawn with the same weights, so that they belong together as those of the others do.
    """
    weights_nN = rng.standard_normal((n, len(next(iter(of.values())))))
    return {c: _scaled(vectors_ND, weights_nN) for c, vectors_ND in of.items()}


def _scaled(vectors_ND: np.ndarray, weights_nN: np.ndarray) -> np.ndarray:
    centre_D = vectors_ND.mean(axis=0, dtype=np.float64)
    spread_ND = (vectors_ND - centre_D) / np.sqrt(len(vectors_ND) - 1)
    drawn_nD = centre_D + weights_nN @ spread_ND
    return (drawn_nD / np.linalg.norm(drawn_nD, axis=1, keepdims=True)).astype(np.float32)
