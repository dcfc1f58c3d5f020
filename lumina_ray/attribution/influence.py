"""The finding of influence: what the catalog's songs contributed to a clip, in nats, groups of songs first."""

from collections.abc import Iterator, Mapping

from lumina_ray.attribution.schema import GroupEffect, InfluenceFinding
from lumina_ray.calibration.effects import SongEffects
from lumina_ray.index import Snapshot
from lumina_ray.index.worth import PARTIES, UNIT, Tally
from lumina_ray.vocabulary import QueryFingerprint

BEST = (5, 10, 20)
"""Sizes of the groups of the songs with the largest effects."""
_LISTED = 10


def find_influence(query: QueryFingerprint, snapshot: Snapshot) -> InfluenceFinding | None:
    """Compute the effects of the catalog's songs on a clip.

    Returns:
        None where the index has no effects, or the query not all of their channels.
    """
    worth = snapshot.worth({c: of_channel.vector for c, of_channel in query.channels.items()})
    if worth is None or (effects := snapshot.effects) is None:
        return None
    whole = worth.whole
    tallies = [tally for _, tally in worth.best]
    best = tuple(
        _group(effects, whole, None, sum(tallies[1:n], start=tallies[0]), tuple(name for name, _ in worth.best[:n]))
        for n in BEST
        if n < whole.n_songs
    )
    return InfluenceFinding(
        query_kind=effects.query_kind,
        of="clip" if effects.shown else "output",
        fit_sha256=effects.fit_sha256,
        n_models=effects.n_models,
        retraining_noise=effects.noise,
        refuted=None if snapshot.membership is None else whole.refuted,
        catalog=_group(effects, whole, None, whole),
        best=best,
        parties={by: tuple(_parties(effects, whole, worth.parties[by])) for by in PARTIES},
        songs=tuple(_group(effects, whole, song_id, tally) for song_id, tally in worth.best[:_LISTED]),
    )


def _group(
    effects: SongEffects, whole: Tally, name: str | None, tally: Tally, song_ids: tuple[str, ...] = ()
) -> GroupEffect:
    effect = tally.effect * UNIT
    low, high = effects.scatter.interval(effect, tally.squares * UNIT, tally.n_songs)
    return GroupEffect(
        name=name,
        n_songs=tally.n_songs,
        song_ids=song_ids,
        effect=effect,
        low=float(low),
        high=float(high),
        share=tally.effect / whole.effect if whole.effect > 0 else 0.0,
        payable=tally.payable / whole.payable if whole.payable > 0 else 0.0,
        channels={c: units * UNIT for c, units in tally.channels.items()},
    )


def _parties(effects: SongEffects, whole: Tally, of: Mapping[str, Tally]) -> Iterator[GroupEffect]:
    """Give the groups of songs of one party each, those with the largest effects."""
    largest = sorted(of.items(), key=lambda party: (-party[1].effect, party[0]))[:_LISTED]
    return (_group(effects, whole, name, tally) for name, tally in largest)
