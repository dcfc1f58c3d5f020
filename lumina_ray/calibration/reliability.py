"""Reliability of the scores that a store gives controls and queries: has each of them a ranking of its own?

Shape legend: N = songs, Q = queries or controls, D = fingerprint dimensions.
"""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lumina_ray.calibration.standard import SongNoise
from lumina_ray.calibration.vectors import blocks
from lumina_ray.diagnostics.reliability import Reliability, ScoreSums, judge

STANDARD = "_standard"
"""Ends the name of the reliability of a channel's standard scores, of which policy `calibrated` takes the mean over
channels, and ranks by it."""
MIN_SONGS = 20
"""Fewest songs that are judged: of fewer, rankings of unrelated music agree or oppose each other often by chance."""
# Of more, the rest adds nothing that can be seen, and work that grows with their square.
_MOST_QUERIES = 1000
_RULES = {
    "": "similarity, which policies `v7` and `v8` and `lumina scores` rank by",
    STANDARD: "standard score, which policy `calibrated` ranks by",
}


class ScoreReliability(BaseModel):
    """Whether rankings differ: all from 0 to 1, low is good. See docs/diagnostics.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    queries: int = Field(description="Queries or controls that were compared with each other.")
    kappa: float = Field(description="Mean absolute correlation of two queries' scores.")
    kappa_chance: float = Field(description="What independent normal scores would show.")
    r1: float = Field(description="Part of the squares on the first singular vector, scores less each query's mean.")
    r1_chance: float = Field(description="What independent normal scores would show.")
    collapse: float = Field(description="(kappa − kappa_chance) / (1 − kappa_chance).")
    collapsed: bool = Field(description="Whether rankings have at least as much in common as of their own.")

    @classmethod
    def of(cls, found: Reliability) -> "ScoreReliability":
        return cls(
            queries=found.queries,
            kappa=found.found.kappa,
            kappa_chance=found.chance.kappa,
            r1=found.found.r1_centred,
            r1_chance=found.chance.r1_centred,
            collapse=found.collapse,
            collapsed=found.collapsed,
        )


def measure_reliability(
    songs_ND: np.ndarray, queries_QD: np.ndarray, noise: SongNoise, name: str
) -> dict[str, ScoreReliability]:
    """Measure the reliability of queries' similarities to songs, a block of songs at a time.

    Args:
        songs_ND: float32 unit vectors.
        queries_QD: float32 unit vectors, two at least; of more than 1000, the first 1000 are taken.
        noise: of the songs.
        name: what the queries are called in the result.

    Returns:
        By `name` as similarities are, and by `name` and `STANDARD` as standard scores are. Empty for fewer than
        `MIN_SONGS` songs.
    """
    if len(songs_ND) < MIN_SONGS:
        return {}
    queries_DQ = queries_QD[:_MOST_QUERIES].astype(np.float64).T
    raw: ScoreSums | None = None
    standard: ScoreSums | None = None
    for block in blocks(len(songs_ND)):
        similarity_NQ = songs_ND[block].astype(np.float64) @ queries_DQ
        # A query's level changes nothing: it moves and stretches the excesses over all songs alike.
        excess_NQ = SongNoise(noise.mean[block], noise.spread[block]).excess(similarity_NQ.T).T
        of_raw, of_standard = ScoreSums.of(similarity_NQ), ScoreSums.of(excess_NQ)
        raw = of_raw if raw is None else raw + of_raw
        standard = of_standard if standard is None else standard + of_standard
    assert raw is not None
    assert standard is not None
    return {
        name: ScoreReliability.of(judge(raw)),
        name + STANDARD: ScoreReliability.of(judge(standard)),
    }


def sentences(of: Mapping[str, Mapping[str, ScoreReliability]]) -> list[str]:
    """Say for each channel how much rankings have in common."""
    return [
        f"{channel}: rankings of {one.queries} {_words(name)} have {_values(one)}"
        for channel, by_name in of.items()
        for name, one in by_name.items()
    ]


def warnings(of: Mapping[str, Mapping[str, ScoreReliability]]) -> list[str]:
    """Say which channels have collapsed; empty where none has, and for calibrations of earlier versions."""
    return [
        f"channel {channel} has COLLAPSED: the rankings of {one.queries} {_words(name)} have as much in common as of "
        f"their own, or more ({_values(one)}). It names nearly the same songs for any music, by "
        f"{_RULES[STANDARD if name.endswith(STANDARD) else '']}. Take another kind of fingerprint, or distrust this "
        "channel."
        for channel, by_name in of.items()
        for name, one in by_name.items()
        if one.collapsed
    ]


def _values(of: ScoreReliability) -> str:
    return f"collapse {of.collapse:.2f} (κ̄ {of.kappa:.3f}, chance {of.kappa_chance:.3f})"


def _words(name: str) -> str:
    return f"{name.removesuffix(STANDARD)} by standard score" if name.endswith(STANDARD) else f"{name} by similarity"
