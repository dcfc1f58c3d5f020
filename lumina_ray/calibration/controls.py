"""Controls: how many a guarantee needs, which kinds of them alarm, and whether they are like songs.

C = controls, R = reference songs, D = fingerprint dimensions.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import betainc

ALPHA = 0.05
CONFIDENCE = 0.95
Guarantee = Literal["mean", "tolerance"]
"""mean: at most `ALPHA` of unrelated tracks have any song qualify, on average over draws of controls. tolerance: that
is so with a probability of `CONFIDENCE` for the controls that there are."""

UNLIKE_P, UNLIKE_AUC = 0.01, 0.75
"""Controls are called unlike the catalog at a p-value of at most the one, if told apart at least as often as this."""
_PERMUTATIONS = 199


def bar_rank(n_controls: int, alpha: float = ALPHA, guarantee: Guarantee = "mean") -> int:
    """Count the controls that may be at or above the bar; 0 where there are too few for any bar.

    Given the controls, the rate at which unrelated tracks exceed the k-th best of C is distributed as
    Beta(k, C + 1 − k), whatever the distribution of scores (Wilks 1941). Its mean is k / (C + 1).
    """
    of_mean = math.floor(alpha * (n_controls + 1) + 1e-9)
    if guarantee == "mean":
        return of_mean
    enough = [k for k in range(1, of_mean + 1) if betainc(k, n_controls + 1 - k, alpha) >= CONFIDENCE]
    return max(enough, default=0)


def controls_needed(rank: int = 1, alpha: float = ALPHA, guarantee: Guarantee = "mean") -> int:
    """Count the controls that a bar takes which so many of them are at or above."""
    n = math.ceil(rank / alpha) - 1
    while bar_rank(n, alpha, guarantee) < rank:
        n += 1
    return n


class KindOfControls(BaseModel):
    """False alarms of one kind of controls: how often they are above a bar."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str = Field(description="The `source` of these controls; empty where they name none.")
    n_controls: int
    above: int = Field(description="How many are above the bar that all controls set.")
    above_others: int | None = Field(
        description="How many are above the bar that the controls of all other kinds set. Null where those are too few."
    )


def kinds_of_controls(
    best_C: np.ndarray, kinds: Sequence[str], alpha: float = ALPHA, guarantee: Guarantee = "mean"
) -> tuple[KindOfControls, ...]:
    """Count false alarms by kind.

    Args:
        best_C: best score of each control.
        kinds: of each control.
    """
    of_C, out = np.array(kinds), []
    for kind in sorted(set(kinds)):
        own, others = best_C[of_C == kind], best_C[of_C != kind]
        bars = [_bar(best_C, alpha, guarantee), _bar(others, alpha, guarantee)]
        above = [None if bar is None else int((own > bar).sum()) for bar in bars]
        out.append(KindOfControls(kind=kind, n_controls=len(own), above=above[0] or 0, above_others=above[1]))
    return tuple(out)


def _bar(best: np.ndarray, alpha: float, guarantee: Guarantee) -> float | None:
    rank = bar_rank(len(best), alpha, guarantee)
    return float(np.sort(best)[-rank]) if rank else None


class Unlikeness(BaseModel):
    """Whether controls can be told from the songs of a catalog, in one channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    auc: float = Field(
        description="How often a song is more like the other songs, less the other controls, than a control is: 0.5 is "
        "a coin, 1 tells them all apart."
    )
    p_value: float = Field(description="Of that, if songs and controls were from one source: by permutation.")

    @property
    def warns(self) -> bool:
        """Whether the controls are to be called unlike the catalog."""
        return self.p_value <= UNLIKE_P and self.auc >= UNLIKE_AUC


def unlikeness(songs_RD: np.ndarray, controls_CD: np.ndarray) -> Unlikeness:
    """Test whether controls and songs could be from one source.

    Each track is compared with the mean of all other songs and of all other controls. Labels are exchanged at random
    for the p-value, which is valid whatever the fingerprints are (a permutation test).

    Args:
        songs_RD: float64 unit vectors of the reference songs.
        controls_CD: float64 unit vectors.
    """
    both = np.concatenate([songs_RD, controls_CD])
    gram = both @ both.T
    is_song = np.arange(len(both)) < len(songs_RD)
    rng = np.random.default_rng(0)
    found = _auc(gram, is_song)
    exchanged = [_auc(gram, rng.permutation(is_song)) for _ in range(_PERMUTATIONS)]
    return Unlikeness(auc=found, p_value=float((1 + np.sum(np.array(exchanged) >= found)) / (1 + _PERMUTATIONS)))


def _auc(gram: np.ndarray, is_song: np.ndarray) -> float:
    """The area under the curve of each track's nearness to songs, less its nearness to controls, without itself."""
    own = np.diag(gram)
    to_songs = (gram @ is_song - own * is_song) / np.maximum(is_song.sum() - is_song, 1)
    to_controls = (gram @ ~is_song - own * ~is_song) / np.maximum((~is_song).sum() - ~is_song, 1)
    nearer = to_songs - to_controls
    below = np.searchsorted(np.sort(nearer[~is_song]), nearer[is_song])
    return float(below.mean() / (~is_song).sum())
