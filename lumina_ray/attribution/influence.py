"""The finding of influence: what the catalog's songs contributed to a clip, in nats, groups of songs first.

N songs of the catalog that may be found, n songs of a group.
"""

from collections.abc import Iterator

import numpy as np

from lumina_ray.attribution.schema import GroupEffect, InfluenceFinding
from lumina_ray.calibration.effects import SongEffects, z_of
from lumina_ray.calibration.vectors import blocks
from lumina_ray.index import Snapshot
from lumina_ray.vocabulary import Channel, QueryFingerprint

BEST = (5, 10, 20)
"""Sizes of the groups of the songs with the largest effects."""
_LISTED = 10
_PARTIES = ("creator", "publisher", "master_owner")


def find_influence(query: QueryFingerprint, snapshot: Snapshot) -> InfluenceFinding | None:
    """Compute the effects of the catalog's songs on a clip.

    Returns:
        None where the index has no effects, or the query not all of their channels.
    """
    effects = snapshot.effects
    if effects is None or set(effects.scales) != set(query.channels):
        return None
    rows = np.setdiff1d(np.arange(len(snapshot.songs)), snapshot.withdrawals.rows())
    z = {c: _z(c, query, rows, snapshot) for c in effects.scales}
    parts = effects.effects(z)
    songs = snapshot.songs_at(rows, ["song_id", *_PARTIES]).to_pydict()
    whole = _Whole(effects, parts, songs["song_id"])
    order = np.argsort(-whole.effect, kind="stable")
    best = tuple(whole.group("best", None, order[:n]) for n in BEST if n < len(rows))
    return InfluenceFinding(
        query_kind=effects.query_kind,
        of="clip" if effects.shown else "output",
        fit_sha256=effects.fit_sha256,
        n_models=effects.n_models,
        retraining_noise=effects.noise,
        catalog=whole.group("catalog", None, order),
        best=best,
        parties={by: tuple(_parties(whole, by, songs[by])) for by in _PARTIES},
        songs=tuple(whole.group("song", songs["song_id"][i], np.array([i])) for i in order[:_LISTED]),
    )


def _z(channel: Channel, query: QueryFingerprint, rows: np.ndarray, snapshot: Snapshot) -> np.ndarray:
    query_D = query.channels[channel].vector.astype(np.float64)
    similarity_N = np.empty(len(rows))
    for block in blocks(len(rows)):
        vectors = snapshot.vectors(channel, rows[block]).astype(np.float64)
        # Row by row, so that a number does not depend on what else is computed with it.
        similarity_N[block] = np.einsum("nd,d->n", vectors, query_D)
    return z_of(similarity_N, snapshot.noise[channel].take(rows), snapshot.references[channel].noise)


class _Whole:
    """The effects of all songs, of which groups are made."""

    def __init__(self, effects: SongEffects, parts: dict[Channel, np.ndarray], song_ids: list[str]) -> None:
        self.effect: np.ndarray = np.sum(list(parts.values()), axis=0)
        self._effects, self._parts, self._ids = effects, parts, song_ids
        self._total = float(self.effect.sum())

    def group(self, by: str, name: str | None, places: np.ndarray) -> GroupEffect:
        effect = float(self.effect[places].sum())
        low, high = self._effects.interval(self.effect[places])
        return GroupEffect(
            name=name,
            n_songs=len(places),
            song_ids=tuple(self._ids[i] for i in places.tolist()) if by == "best" else (),
            effect=effect,
            low=low,
            high=high,
            share=effect / self._total if self._total > 0 else 0.0,
            channels={c: float(part[places].sum()) for c, part in self._parts.items()},
        )


def _parties(whole: _Whole, by: str, names: list[str | None]) -> Iterator[GroupEffect]:
    """Give the groups of songs of one party each, those with the largest effects."""
    of: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name:
            of.setdefault(name, []).append(place)
    groups = [whole.group(by, name, np.array(places)) for name, places in of.items()]
    yield from sorted(groups, key=lambda group: (-group.effect, group.name or ""))[:_LISTED]
