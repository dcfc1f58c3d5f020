"""Measures of what a similarity follows, score or sound, on clips in which the two are apart.

Every clip has a score and a sound. For a query, all clips fall into four cells: the same score in another sound,
another score in the same sound, neither, and both (the query itself and its variants, which count for nothing).

Shape legend: Q = queries, N = clips that are found, W = scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.truth.measures import Estimate, mean, precedence

MEASURES = {
    "score_over_sound": "how often a clip of the query's score in another sound is ahead of one of another score in "
    "the query's sound; 0.5 follows neither",
    "sound_over_score": "1 − the same: how often sound is ahead of score",
    "score_over_neither": "how often a clip of the query's score in another sound is ahead of one that shares neither; "
    "0.5 is a coin",
    "sound_over_neither": "how often a clip of another score in the query's sound is ahead of one that shares neither; "
    "0.5 is a coin",
    "first_is_score": "how often the first of all other clips has the query's score",
    "first_is_sound": "how often the first of all other clips has the query's sound",
}
"""All measures by name, in the order of the table."""


@dataclass(frozen=True)
class Labels:
    """What each of n clips plays, and in what sound.

    Attributes:
        scores: one name a clip.
        sounds: one name a clip.

    Raises:
        ValueError: there are more names of one than of the other.
    """

    scores: tuple[str, ...]
    sounds: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.sounds):
            raise ValueError(f"{len(self.scores)} scores and {len(self.sounds)} sounds: each clip needs one of each")

    def take(self, places: Sequence[int]) -> "Labels":
        """Give the labels of the clips at some places."""
        return Labels(tuple(self.scores[i] for i in places), tuple(self.sounds[i] for i in places))


def similarities(queries_QD: np.ndarray, clips_ND: np.ndarray) -> np.ndarray:
    """Compute cosines of feature vectors, float64 `[Q, N]`; 0 with a vector of zeros."""
    units = [
        vectors / np.where((lengths := np.linalg.norm(vectors, axis=1, keepdims=True)) > 0, lengths, 1)
        for vectors in (queries_QD.astype(np.float64), clips_ND.astype(np.float64))
    ]
    return units[0] @ units[1].T


def measure(scores_QN: np.ndarray, queries: Labels, clips: Labels, seed: int = 0) -> dict[str, Estimate]:
    """Measure what scores follow, with intervals from drawing the queries' scores again.

    Args:
        scores_QN: of every clip for every query, larger for more alike; only their order within a query counts.
        queries: labels of the queries.
        clips: labels of the clips. Clips with a query's score and its sound are left out for it.
        seed: of the bootstrap.

    Returns:
        By the names of `MEASURES`.

    Raises:
        ValueError: the shapes do not fit the labels; a query lacks one of the three cells; a score is not finite.
    """
    rows = per_query(scores_QN, queries, clips)
    out: dict[str, Estimate] = {}
    for name in MEASURES:
        of_score: dict[str, list[float]] = {}
        for work, value in zip(queries.scores, rows[name], strict=True):
            of_score.setdefault(work, []).append(value)
        out[name] = mean(np.array([np.mean(values) for values in of_score.values()]), seed)
    return out


def per_query(scores_QN: np.ndarray, queries: Labels, clips: Labels) -> dict[str, np.ndarray]:
    """Compute each measure for each query, float64 `[Q]`; see `measure`."""
    if scores_QN.shape != (len(queries.scores), len(clips.scores)):
        raise ValueError(f"scores {scores_QN.shape} of {len(queries.scores)} queries and {len(clips.scores)} clips")
    if not np.isfinite(scores_QN).all():
        raise ValueError("a score is not finite: no order of clips follows from it")
    scores_N, sounds_N = np.array(clips.scores), np.array(clips.sounds)
    out: dict[str, list[float]] = {name: [] for name in MEASURES}
    for row_N, work, sound in zip(scores_QN, queries.scores, queries.sounds, strict=True):
        same_score, same_sound = scores_N == work, sounds_N == sound
        score, other = row_N[same_score & ~same_sound], row_N[same_sound & ~same_score]
        neither = row_N[~same_score & ~same_sound]
        if not (len(score) and len(other) and len(neither)):
            raise ValueError(f"no clips to compare with for a query of {work!r} in {sound!r}")
        ahead = precedence(score, other)
        # Clips that share the first place share what it counts.
        best = row_N == row_N[~(same_score & same_sound)].max()
        best &= ~(same_score & same_sound)
        values = (
            *(ahead, 1 - ahead, precedence(score, neither), precedence(other, neither)),
            *((best & same).sum() / best.sum() for same in (same_score, same_sound)),
        )
        for name, value in zip(MEASURES, values, strict=True):
            out[name].append(float(value))
    return {name: np.array(values) for name, values in out.items()}
