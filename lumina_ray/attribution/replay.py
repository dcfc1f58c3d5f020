"""A finding beside a report: what leaving each listed song out of the training would have done, by replaying it.

`lumina_ray.replay` computes the derivatives; this says what they mean for the songs of a report.

Shape legend: N = songs of the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lumina_ray.attribution.schema import Report
from lumina_ray.vocabulary import Channel


@dataclass(frozen=True)
class ReplayedSong:
    """A listed song in one channel; ids of equal audio are one song.

    Attributes:
        listed_rank: in the report.
        rank: among all songs of the run: 1 for the largest effect.
        effect_nats: by how much the query's loss in the channel's codebooks rises when the song is left out, in nats
            per code, to first order.
    """

    channel: Channel
    song_id: str
    listed_rank: int
    rank: int
    effect_nats: float


@dataclass(frozen=True)
class Removals:
    """How well derivatives of the run predicted what leaving songs out really did: the run's gate.

    Attributes:
        r, slope: correlation of predicted and actual effects, and by how much actual effects rise for each nat
            predicted; of each query about its mean.
        removals, queries: how many there were.
        predicted_nats, actual_nats: of each removal, mean over the queries, in nats per code.
    """

    r: float
    slope: float
    removals: int
    queries: int
    predicted_nats: tuple[float, ...]
    actual_nats: tuple[float, ...]


@dataclass(frozen=True)
class Replay:
    """Findings of a replay about a report's songs.

    Attributes:
        query_codes_sha256, weights_sha256: what was asked, of which model.
        run_sha256: identity of the recorded training: its data, start, plan, environment, and every state.
        steps: of the training.
        n_songs: that it learned from.
        gate: what was checked before.
        all_songs_nats: sum of all songs' effects, by channel.
        songs: channel by channel, in the order of the report.
        not_learned: listed songs that the training did not have: leaving them out changes nothing.
    """

    query_codes_sha256: str
    weights_sha256: str
    run_sha256: str
    steps: int
    n_songs: int
    gate: Removals
    all_songs_nats: Mapping[Channel, float]
    songs: tuple[ReplayedSong, ...]
    not_learned: tuple[str, ...]

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)

    def of(self, channel: Channel, song_id: str) -> ReplayedSong | None:
        """Find a listed song."""
        found = (song for song in self.songs if (song.channel, song.song_id) == (channel, song_id))
        return next(found, None)


def replay_finding(
    report: Report,
    song_ids: Sequence[str],
    effects: Mapping[Channel, np.ndarray],
    *,
    run_sha256: str,
    steps: int,
    gate: Removals,
) -> Replay:
    """Say what a replay found of the songs that a report lists.

    Args:
        song_ids: of the run, N.
        effects: of leaving each out, by channel, in nats per code: float64 `[N]`.
    """
    place = {song_id: n for n, song_id in enumerate(song_ids)}
    songs: list[ReplayedSong] = []
    missing: dict[str, None] = {}
    for channel, answer in report.near_copies.items():
        effects_N = effects[channel]
        for number, candidate in enumerate(answer.candidates, start=1):
            # Equal audio is one song: leaving it out leaves all of its copies out.
            same = [place[one.song_id] for one in (candidate.song, *candidate.equal_songs) if one.song_id in place]
            if not same:
                missing.setdefault(candidate.song.song_id)
                continue
            effect, others_N = float(effects_N[same].sum()), np.delete(effects_N, same)
            rank = 1 + int((others_N > effect).sum())
            songs.append(ReplayedSong(channel, candidate.song.song_id, number, rank, effect))
    return Replay(
        query_codes_sha256=report.query.codes_sha256,
        weights_sha256=report.basis.weights_sha256,
        run_sha256=run_sha256,
        steps=steps,
        n_songs=len(song_ids),
        gate=gate,
        all_songs_nats={channel: float(effects[channel].sum()) for channel in report.near_copies},
        songs=tuple(songs),
        not_learned=tuple(missing),
    )
