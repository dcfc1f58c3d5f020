"""Three rules that turn evidence into shares. `v8` and `v7` are as published; `calibrated` is ours.

All three are positive-only: a song without positive similarity takes no share. The published rules judge the
similarity `s` between fingerprints in one channel, `calibrated` the standard score in all channels together. Kernel
scores are part of the `calibrated` shares only: the published shares are functions of `s` alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf, erfinv

from lumina_ray.attribution.evidence import Evidence
from lumina_ray.attribution.groups import Group, linked, paid
from lumina_ray.calibration import ALPHA, Gate
from lumina_ray.methods.kernel import RIDGE, nonnegative_kernel_scores

V8_LEVELS = ("Not qualified", "Qualified Influence", "High Confidence", "Definitive Proof")
V7_CONFIDENCE = 0.95
MAX_GROUPED = 1024
MAX_CORRECTION = 2.0
"""How many times what lies above the noise a share may be, for the shortness of the query."""
CALIBRATED_LEVELS = ("Within the noise", "Near copy of one above the noise", "Above the noise", "Above every control")


@dataclass(frozen=True)
class Verdict:
    """The answer of a policy for k candidates.

    Attributes:
        thresholds: `[k]` the similarity at which each candidate qualifies; under `calibrated`, at which this channel
            alone is as far above the noise as the channels together must be.
        qualified: bool `[k]`.
        levels: `k` names.
        shares: `[k]`, each ≥ 0, with a sum of at most 1.
        unattributed: 1 minus that sum.
        explained: `[k]`, `calibrated` only: shares before the noise is deducted.
        groups: `calibrated` only: the candidates that qualified, each in one group.
    """

    thresholds: np.ndarray
    qualified: np.ndarray
    levels: tuple[str, ...]
    shares: np.ndarray
    unattributed: float
    explained: np.ndarray | None = None
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A rule by which candidates qualify and get shares.

    Attributes:
        judge: the rule.
        qualify: the part of it that says which candidates qualify, bool `[k]`.
        published: whether others published it.
    """

    judge: Callable[[Evidence], Verdict]
    qualify: Callable[[Evidence], np.ndarray]
    published: bool


def v8(evidence: Evidence) -> Verdict:
    """Published: qualified from μ + 1σ on; shares are `max(s − threshold, 0)`, normalised to 1.

    Its levels are names, not findings: of normally distributed noise, 16 % of unrelated songs are a "Qualified
    Influence" and one in 740 is a "Definitive Proof", for any query.
    """
    threshold = evidence.noise.mean + evidence.noise.std
    z = evidence.z
    level = np.clip(np.floor(z), 0, 3).astype(int)
    excess = np.where(evidence.similarity > 0, np.maximum(evidence.similarity - threshold, 0), 0)
    return Verdict(
        thresholds=np.full(len(z), threshold),
        qualified=_v8_qualified(evidence),
        levels=tuple(V8_LEVELS[i] for i in level),
        **_normalised(excess),
    )


def _v8_qualified(evidence: Evidence) -> np.ndarray:
    return evidence.z >= 1


def v7(evidence: Evidence) -> Verdict:
    """Published: STS = z; qualified at confidence `erf(z/√2)` ≥ 95 %; shares are `max(0, STS − 1)²`, normalised to 1.

    As published, a song takes a share from STS = 1 on, before it qualifies (at STS = 1.96).
    """
    z = evidence.z
    qualified = _v7_qualified(evidence)
    weights = np.where(evidence.similarity > 0, np.maximum(0, z - 1) ** 2, 0)
    bar = evidence.noise.mean + evidence.noise.std * float(np.sqrt(2) * erfinv(V7_CONFIDENCE))
    return Verdict(
        thresholds=np.full(len(z), bar),
        qualified=qualified,
        levels=tuple("Qualified" if q else "Not qualified" for q in qualified),
        **_normalised(weights),
    )


def _v7_qualified(evidence: Evidence) -> np.ndarray:
    return v7_confidence(evidence.z) >= V7_CONFIDENCE


def v7_confidence(z: np.ndarray) -> np.ndarray:
    """The published confidence, `erf(z/√2)`: two-sided normal coverage, negative below the mean."""
    return erf(np.asarray(z, dtype=np.float64) / np.sqrt(2))


def v7_lip(z: np.ndarray) -> np.ndarray:
    """The published LIP, `tanh(0.5·STS)`; LIP% is `(LIP + 1) / 2 · 100`."""
    return np.tanh(0.5 * np.asarray(z, dtype=np.float64))


def calibrated(evidence: Evidence, alpha: float = ALPHA) -> Verdict:
    """Ours: two questions, then shares; what is unaccounted for is unattributed.

    Is there anything at all? Only when the best song's family-wise p-value is at most alpha; else nothing qualifies.
    Then, which songs? Those above the threshold of Benjamini and Hochberg's list, or of the family-wise p-value where
    that is lower. On average over queries, no more than alpha of a list is there by chance; but a list that an
    unrelated query gets, as alpha of them do, is all chance.

    Near copies of each other are one song in all of this (`lumina_ray.attribution.groups`): the list counts them once,
    and what they are paid is divided among them.

    Shares are fractions of the squared length of the query's fingerprint. The query is regressed on the qualified
    groups with non-negative scores `a`; group j then accounts for `a_j s_j`, and these add up to the explained fraction
    R² ≤ 1 (Pratt's measure). Of it, only what lies above the noise counts: as in v8 the excess over the song's
    threshold `t_j`, as a fraction of what was explained, on a scale on which an identical song counts in full:

        above_j = a_j s_j · (s_j² − t_j²) / (s_j² (1 − t_j²))

    A short query has much of its own in it that no song can account for, not even the whole of its recording. So what
    is above the noise is measured by what the query has in common with itself from stretch to stretch, r ≤ 1 of its
    squared length (`lumina_ray.attribution.parts`), less the same noise:

        share_j = above_j · (1 − t_j²) / (r − t_j²)

    at most twice what is above the noise, and less where shares would add up to more than 1. That is the estimand: the
    share that a long piece of this kind would have, in this catalog and by these controls, as far as twice what this
    clip shows. Of one stretch r is not known, and 1.

    `t_j` is the similarity at which this channel alone is as far above the noise as all of them together must be: a
    song that qualifies by the other channel may have none here. So a song that barely qualifies takes a share near 0,
    the query's own song one near 1 (less λ), and `unattributed = 1 − Σ share`. What a share is not: a proven causal
    fraction, a fraction of the audio, or a probability. It is how far likeness in this fingerprint goes beyond what
    unrelated music shows.
    """
    cutoff, qualified, groups = _above_the_noise(evidence, alpha)
    thresholds = evidence.similarity_at(cutoff)
    explained, shares = np.zeros(len(qualified)), np.zeros(len(qualified))
    if groups:
        standing = np.array([group.representative for group in groups])
        s = evidence.similarity[standing]
        scores = nonnegative_kernel_scores(evidence.vectors[standing], evidence.query, RIDGE)
        # A query that a client hands in may be longer than 1 by a little.
        of_groups = scores * s / (evidence.query @ evidence.query)
        given = shares_of(of_groups, s, thresholds[standing], evidence.parts.self_likeness)
        for group, one, share in zip(groups, of_groups, given, strict=True):
            explained[group.members] = group.parts * one
            shares[group.members] = group.parts * share
    level = qualified.astype(int)
    level += qualified & (evidence.score > cutoff)
    level += qualified & (evidence.score > max(cutoff, evidence.gate.control_maxima[0]))
    return Verdict(
        thresholds=thresholds,
        qualified=qualified,
        levels=tuple(np.take(CALIBRATED_LEVELS, level).tolist()),
        shares=shares,
        # Shares that were divided by their sum may miss 1 in the last bit.
        unattributed=max(0.0, float(1 - shares.sum())),
        explained=explained,
        groups=groups,
    )


def _above_the_noise(evidence: Evidence, alpha: float = ALPHA) -> tuple[float, np.ndarray, tuple[Group, ...]]:
    """The standard score above which candidates qualify; bool `[k]`, which do; and these in groups."""
    gate, score, similar = evidence.gate, evidence.score, evidence.similarity > 0
    cutoff = gate.critical(alpha)
    # A song below zero similarity has no positive influence to qualify with, however low its own threshold.
    if not (similar & (score > cutoff)).any():
        return cutoff, np.zeros(len(score), bool), ()
    listed = np.flatnonzero(similar & (score > min(cutoff, _list_cutoff(gate, evidence.q_values, alpha))))
    near_qk = _near(evidence, listed)
    # Once more, with each group as one song: copies must not make the list longer, and its threshold lower.
    once = np.where(similar, score, -np.inf)
    for members in linked(listed, near_qk):
        once[np.setdiff1d(members, members[np.argmax(once[members])])] = -np.inf
    cutoff = min(cutoff, _list_cutoff(gate, gate.q_values(once), alpha))
    kept = score[listed] > cutoff
    qualified = np.zeros(len(score), bool)
    qualified[listed[kept]] = True
    groups = paid(linked(listed[kept], near_qk[kept]), score, qualified, evidence.claims)
    for group in groups:
        qualified[group.members] = True
    return cutoff, qualified, tuple(groups)


def _near(evidence: Evidence, places: np.ndarray) -> np.ndarray:
    """Which candidates are near copies of those at some places, bool `[q, k]`; each is of itself."""
    itself = places[:, None] == np.arange(len(evidence.score))
    # Beyond that, too many resemble the query for any two of them to be told apart.
    return itself | evidence.near(places) if len(places) <= MAX_GROUPED else itself


def _list_cutoff(gate: Gate, q_values: np.ndarray, alpha: float) -> float:
    """The score above which songs are on Benjamini and Hochberg's list."""
    return gate.value_at(alpha * int((q_values <= alpha).sum()) / gate.n_songs)


def above_noise(similarity: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """The part of an explained fraction that lies above the noise, 0 to 1, for positive similarities."""
    # Rounding leaves a similarity a little above 1 for the query's own song.
    t = np.clip(threshold, 0, None)
    return np.clip((similarity**2 - t**2) / (similarity**2 * np.maximum(1 - t**2, 1e-12)), 0, 1)


def shares_of(
    explained: np.ndarray, similarity: np.ndarray, threshold: np.ndarray, self_likeness: float | None
) -> np.ndarray:
    """Give the shares of songs by what they explain, `[k, …]` like all of these.

    Args:
        explained: part of the query's squared length that each song accounts for.
        similarity: above 0.
        self_likeness: of the query, from stretch to stretch; None where it is not known.
    """
    given = explained * above_noise(similarity, threshold)
    if self_likeness is not None:
        t = np.clip(threshold, 0, None)
        own = (self_likeness - t**2) / np.maximum(1 - t**2, 1e-12)
        given = given / np.clip(own, 1 / MAX_CORRECTION, 1)
    return given / np.maximum(given.sum(axis=0), 1)


def _normalised(weights: np.ndarray) -> dict:
    total = weights.sum()
    return {"shares": weights / total if total > 0 else weights, "unattributed": 0.0 if total > 0 else 1.0}


POLICIES: dict[str, Policy] = {
    "calibrated": Policy(calibrated, qualify=lambda evidence: _above_the_noise(evidence)[1], published=False),
    "v8": Policy(v8, qualify=_v8_qualified, published=True),
    "v7": Policy(v7, qualify=_v7_qualified, published=True),
}
