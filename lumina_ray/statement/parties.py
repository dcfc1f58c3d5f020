"""Who a recording's share goes to: owners, creators, or the recording by itself."""

import unicodedata
from fractions import Fraction
from typing import Literal, NamedTuple

from lumina_ray.catalog.rights import split_entries
from lumina_ray.errors import StatementError
from lumina_ray.statement.lines import Song
from lumina_ray.statement.words import By, Kind
from lumina_ray.vocabulary import Channel

OWNER_FIELD: dict[Channel, Literal["publisher", "master_owner"]] = {"P": "publisher", "M": "master_owner"}
"""The owner of a channel's right to a song that has no splits."""


class Party(NamedTuple):
    """One line of a statement.

    Attributes:
        kind: "named": whom the catalog names, alone. "contested": the catalog lists one recording under several ids,
            and these name different ones. "unnamed": it names nobody.
        names: one name; of a contested line, all of them; none of an unnamed one. By song, the ids of the recording.
    """

    kind: Kind
    names: tuple[str, ...]


class Part(NamedTuple):
    """The part of a recording's share that a party gets.

    Attributes:
        split: the percentage in the catalog's splits; None where these give none.
        fraction: the part. Those of a recording add up to 1.
    """

    party: Party
    split: str | None
    fraction: Fraction


UNNAMED = Party("unnamed", ())


def payable_by(by: By, channel: Channel) -> str:
    """What of a song's facts payable influence is divided by: as reports add it up, which knows no splits."""
    return OWNER_FIELD[channel] if by == "owner" else by


def parts_of(songs: tuple[Song, ...], by: By, channel: Channel) -> tuple[Part, ...]:
    """Divide a recording's share.

    Args:
        songs: the recording's songs: several ids if the catalog lists it several times.
        by: "owner": splits, where the catalog has any, or else the publisher (P) or the master owner (M). "creator":
            the creator, undivided. "song": the recording by itself.

    Raises:
        StatementError: splits that cannot be read.
    """
    if by == "song":
        return (Part(Party("named", tuple(sorted(song.song_id for song in songs))), None, Fraction(1)),)
    claims = [claim for song in songs if (claim := _claim(song, by, channel))]
    if not claims:
        return (Part(UNNAMED, None, Fraction(1)),)
    if len({tuple((name, fraction) for name, _, fraction in claim) for claim in claims}) > 1:
        # Which of them is right, no report can tell.
        names = tuple(sorted({name for claim in claims for name, _, _ in claim}))
        return (Part(Party("contested", names), None, Fraction(1)),)
    claim = claims[0]
    return tuple(Part(Party("named", (name,)), split, fraction) for name, split, fraction in claim)


def _claim(song: Song, by: By, channel: Channel) -> tuple[tuple[str, str | None, Fraction], ...]:
    """Names with their parts, by name; none where the catalog names nobody."""
    if by == "owner" and song.splits:
        return _split(song.song_id, song.splits)
    name = one_way(song.creator if by == "creator" else getattr(song, OWNER_FIELD[channel]))
    return ((name, None, Fraction(1)),) if name else ()


def _split(song_id: str, splits: str) -> tuple[tuple[str, str | None, Fraction], ...]:
    try:
        entries = split_entries(splits)
    except ValueError as error:
        raise StatementError(
            f"song {song_id[:80]!r}: its splits cannot be read ({error}); correct them in the manifest, and attribute "
            "the audio again"
        ) from error
    # 33.33 % three times are meant as a whole.
    total = sum(Fraction(number) for _, number in entries)
    percent: dict[str, Fraction] = {}
    for name, number in entries:
        name = one_way(name)
        percent[name] = percent.get(name, Fraction(0)) + Fraction(number)
    return tuple((name, f"{float(of):g} %", of / total) for name, of in sorted(percent.items()) if of)


def one_way(name: str | None) -> str:
    """A name in one way of writing its characters and spaces. Names that differ otherwise are different names."""
    return " ".join(unicodedata.normalize("NFC", name or "").split())
