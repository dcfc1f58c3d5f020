"""Findings of a confirmation by forgetting on a report's songs: data alone, which a client of an endpoint reads too."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lumina_ray.vocabulary import Channel


@dataclass(frozen=True)
class ConfirmedSong:
    """A listed song in one channel.

    Attributes:
        rank: among the listed songs of the channel and the random ones: 1 for the largest effect.
        listed_rank: in the report.
        effect_nats: rise of the song's loss once the query is forgotten, in the channel's codebooks, nats per code.
        noise_nats: standard error of the effect over the query's frames, from repeated steps that each forget a half of
            them; None where the query has too few.
        p_value: fraction of the random songs, and this one, whose effect is at least as large; for one song chosen
            before looking.
    """

    channel: Channel
    song_id: str
    listed_rank: int
    rank: int
    effect_nats: float
    noise_nats: float | None
    p_value: float


@dataclass(frozen=True)
class Confirmation:
    """Findings of forgetting about a report's songs.

    Attributes:
        query_codes_sha256, weights_sha256, fisher_sha256: what was forgotten, by which model, in which metric.
        settings: of the forgetting.
        rise_nats: of the query's own loss, in nats per code.
        repeats: steps that forgot a half of the query.
        n_random: songs drawn from the catalog that the report does not list.
        random_mean_nats, random_sd_nats: of their effects, by channel.
        songs: channel by channel, in the order of the report.
    """

    query_codes_sha256: str
    weights_sha256: str
    fisher_sha256: str
    settings: Mapping[str, str | float | int | bool]
    rise_nats: float
    repeats: int
    n_random: int
    random_mean_nats: Mapping[Channel, float]
    random_sd_nats: Mapping[Channel, float]
    songs: tuple[ConfirmedSong, ...]

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)
