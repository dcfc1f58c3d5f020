"""The listed songs of a report as rows of a table: one value for each column, for frames and CSV files.

Songs of equal audio share a row, as they share its numbers.
"""

from collections.abc import Mapping
from typing import Any, get_args

from lumina_ray.attribution import Candidate, ChannelReport, Report
from lumina_ray.errors import UsageError
from lumina_ray.vocabulary import Channel

OWNERS: dict[Channel, tuple[str, ...]] = {
    "P": ("iswc", "publisher", "splits"),
    "M": ("isrc", "master_owner", "splits"),
}
"""Fields of `SongFacts` about a channel's right. Splits do not say which right they divide: both channels have them."""

_NUMBERS = ("share", "share_low", "share_high", "similarity", "p_value", "family_wise_p", "q_value", "qualified")


def columns_of(*owners: str) -> list[str]:
    """Names of the columns, in order, with these owner facts."""
    return ["rank", "song_id", "equal_song_ids", "title", "creator", *owners, *_NUMBERS, "membership_p", "payable"]


def payable_songs(report: Report) -> dict[str, float]:
    """Part of the effect of all songs whose use is not refuted, by song id, of those whose effect the report lists.

    These are the ten with the largest effects; none where the report tells no influence, or not what is payable.
    """
    listed = report.influence.songs if report.influence else ()
    return {of.name: of.payable for of in listed if of.name is not None and of.payable is not None}


def row(candidate: Candidate, owners: tuple[str, ...], payable: Mapping[str, float]) -> dict[str, Any]:
    """The values of `columns_of(*owners)`; None where there is none.

    Args:
        payable: of the report's songs, as `payable_songs` gives it.
    """
    facts = {"song_id": candidate.song.song_id, "equal_song_ids": equal_song_ids(candidate)}
    facts |= {name: joined(candidate, name) for name in ("title", "creator", *owners)}
    numbers = {name: getattr(candidate, name) for name in _NUMBERS}
    membership_p = candidate.membership.p_value if candidate.membership else None
    ids = [song.song_id for song in (candidate.song, *candidate.equal_songs)]
    parts = [payable[song_id] for song_id in ids if song_id in payable]
    rest = {"membership_p": membership_p, "payable": sum(parts) if parts else None}
    return {"rank": candidate.rank, **facts, **numbers, **rest}


def joined(candidate: Candidate, name: str) -> str | None:
    """A fact of a candidate's songs, those of equal audio included: once where it is the same, else in their order."""
    values = [getattr(song, name) for song in (candidate.song, *candidate.equal_songs)]
    if len(set(values)) == 1:
        return values[0] or None
    return " / ".join(value or "–" for value in values)


def equal_song_ids(candidate: Candidate) -> str | None:
    """Ids of the songs of equal audio besides the candidate's own; None where there are none."""
    return " / ".join(song.song_id for song in candidate.equal_songs) or None


def shown(channel: ChannelReport, top: int) -> tuple[Candidate, ...]:
    """The first `top` listed songs by rank, and further ones up to the last that qualified: none of these is hidden."""
    return channel.candidates[: max([top, *(i + 1 for i, c in enumerate(channel.candidates) if c.qualified)])]


def channel_of(report: Report, channel: str) -> ChannelReport:
    """A report's part on one channel.

    Raises:
        UsageError: no such channel, or the index of the report does not hold it.
    """
    if channel not in get_args(Channel):
        raise UsageError(f"channel must be one of {', '.join(get_args(Channel))}, got {channel!r}")
    if channel not in report.near_copies:
        raise UsageError(
            f"the report has no channel {channel}, as its index holds {', '.join(report.near_copies)} alone"
        )
    return report.near_copies[channel]  # type: ignore[index]  # checked above
