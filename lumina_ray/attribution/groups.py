"""Groups of near-duplicates: songs of which one is a near copy of another, attributed and paid as one.

A recording that somebody else registers again, re-encoded, cut or pitched, competes with the original for the same part
of a query. A regression would divide the part among them, and the more copies, the more they take. So songs that
qualify for a query are grouped first: two belong together if the gate, asked about one of them, finds the other, and
whoever is linked through others belongs together as well (single linkage). If anybody's date of registration is known,
so does a song that would not qualify alone: a copy may be closer to the query than the original is. The group is
regressed as one song, its representative: the song that is paid by date, or else the one with the best score. Its share
is divided inside by one of three rules, the first that applies:

    earliest   somebody's date of registration is known: all of it is the earliest's, or theirs in equal parts
    one_owner  all name the same owner of the channel's right: whoever of them, in equal parts
    even       equal parts for each owner, and of these for each of the owner's songs; who names none stands alone

Which of the rules is just, software cannot tell. It shows the group, and every song of it.

k = candidates, q = some of them, R = reference songs, D = fingerprint dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse.csgraph import connected_components

from lumina_ray.calibration import Gate, Reference, SongNoise, joint_scores
from lumina_ray.calibration.standard import levels
from lumina_ray.vocabulary import Channel

Rule = Literal["earliest", "one_owner", "even"]


@dataclass(frozen=True)
class Claim:
    """Facts of a song by which a group's share is divided.

    Attributes:
        registered: a day as ISO 8601 writes it; None if it is not known.
        owner: of the channel's right; None if nobody is named.
    """

    registered: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Group:
    """Songs that are paid as one.

    Attributes:
        members: int64 `[m]`, their places among the candidates, ascending.
        representative: the place of the song that stands for all.
        parts: float64 `[m]`, of the group's share; they add up to 1.
        rule: by which it is divided.
    """

    members: np.ndarray
    representative: int
    parts: np.ndarray
    rule: Rule


def near_copies(
    vectors: Mapping[Channel, np.ndarray],
    noise: Mapping[Channel, SongNoise],
    references: Mapping[Channel, Reference],
    gate: Gate,
    places: np.ndarray,
) -> np.ndarray:
    """Say which songs are near copies of some of them: those that the gate finds for these.

    Args:
        vectors: channel → float64 `[k, D]`.
        noise: of these songs, by channel.
        places: int64 `[q]`, of the songs that the gate is asked about.

    Returns:
        bool `[q, k]`.
    """
    scores = []
    for channel, vectors_kD in vectors.items():
        reference, asked_qD = references[channel], vectors_kD[places]
        centre_q, scale_q = levels(reference.noise.excess(asked_qD @ reference.vectors.T))
        excess_qk = noise[channel].excess(asked_qD @ vectors_kD.T)
        scores.append((excess_qk - centre_q[:, None]) / scale_q[:, None])
    return joint_scores(scores) > gate.critical()


def linked(places: np.ndarray, near_qk: np.ndarray) -> list[np.ndarray]:
    """Give the groups of some songs and of all that are near copies of them: the places of each group, ascending.

    Args:
        places: int64 `[q]`, of the songs among k candidates.
        near_qk: bool, which candidates are near copies of each.
    """
    k = near_qk.shape[1]
    links_kk = np.zeros((k, k), bool)
    links_kk[places] = near_qk
    _, label_k = connected_components(links_kk, directed=False)
    return [np.flatnonzero(label_k == label) for label in dict.fromkeys(label_k[places].tolist())]


def paid(
    members: Sequence[np.ndarray],
    score: np.ndarray,
    alone_k: np.ndarray,
    claims: Callable[[np.ndarray], list[Claim]],
) -> list[Group]:
    """Say who is paid in each group.

    Args:
        members: the places of each group.
        score: float64 `[k]`, standard scores of all candidates.
        alone_k: bool, which candidates qualify by themselves.
        claims: gives those of the candidates at some places.
    """
    out = []
    for places in members:
        parts, rule = divide(claims(places))
        if rule != "earliest":
            # Nothing says that another song was there before these.
            places = places[alone_k[places]]
            parts, rule = divide(claims(places))
        # Whoever is paid by date stands for the group: copies that others made of it change nothing.
        standing = places[parts > 0] if rule == "earliest" else places
        out.append(Group(places, int(standing[np.argmax(score[standing])]), parts, rule))
    return out


def divide(claims: Sequence[Claim]) -> tuple[np.ndarray, Rule]:
    """Divide a share among songs.

    Returns:
        parts: float64, which add up to 1.
        rule: the one that applied.
    """
    dates = [claim.registered for claim in claims if claim.registered]
    if dates:
        # Days in ISO 8601 are in the order of their text.
        earliest = np.array([claim.registered == min(dates) for claim in claims])
        return earliest / earliest.sum(), "earliest"
    owners: list[object] = [claim.owner or i for i, claim in enumerate(claims)]
    parts = np.array([1 / owners.count(owner) for owner in owners]) / len(set(owners))
    one = len(claims) > 1 and len(set(owners)) == 1
    return parts, "one_owner" if one else "even"
