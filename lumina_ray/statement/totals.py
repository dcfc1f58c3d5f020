"""Adds up clips, one at a time: exact shares of lines and recordings, what intervals need, and evidence."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lumina_ray.attribution.schema import RIGHTS
from lumina_ray.statement.exact import MICRO, ONE, exact_shares, micro_shares
from lumina_ray.statement.intervals import total_interval
from lumina_ray.statement.lines import LEVELS, Song
from lumina_ray.statement.parties import Part, Party, one_way, parts_of
from lumina_ray.statement.schema import ChannelStatement, Evidence, Line, Link, PayableInfluence, SongLine
from lumina_ray.statement.spool import SpooledClip, SpooledPayable, SpooledShare
from lumina_ray.statement.words import By
from lumina_ray.vocabulary import Channel

LARGEST = 10
"""Reports that a line names itself; all others are in the table of evidence."""


class PartOfClip(NamedTuple):
    """What a line gets from one recording in one report: a row of the table of evidence."""

    report_sha256: str
    audio_sha256: str
    channel: Channel
    party: Party
    songs: tuple[Song, ...]
    split: str | None
    share: float
    part: float


# A share, whom it goes to, the exact share, and the part that goes to them.
_Given = tuple[SpooledShare, Part, int, float]


class _Errors:
    """Sums that an interval is made of."""

    def __init__(self) -> None:
        self.known = True
        self.drawn = np.zeros(LEVELS)
        self.own_variance = 0.0

    def add(self, given: list[tuple[SpooledShare, float]]) -> None:
        """Add shares of one clip, with the part of each that counts. Their own errors count as fully dependent."""
        own_sd = 0.0
        for share, fraction in given:
            if share.drawn is None or share.own_sd is None:
                self.known = False
                return
            self.drawn += fraction * np.array(share.drawn)
            own_sd += fraction * share.own_sd
        self.own_variance += own_sd**2

    def interval(self, point: int, clips: int) -> tuple[int | None, int | None]:
        """Both ends in micro-shares, around the total itself and between 0 and all that there is.

        They are rounded to a millionth of all clips, so that the last bits of another machine's sums do not show.
        """
        if not self.known:
            return None, None
        low, high = (clips * round(end * MICRO / clips) for end in total_interval(self.drawn, self.own_variance))
        return max(0, min(low, point)), min(clips * MICRO, max(high, point))


@dataclass
class _Recording:
    """A recording in a line, of which the line gets a part: exact shares before they are divided, in 2⁻⁶⁰."""

    part: Part
    shares: int = 0
    reports: int = 0

    def exact(self) -> Fraction:
        """The line's part of it, in micro-shares."""
        return self.part.fraction * self.shares * MICRO / ONE


class _Line:
    def __init__(self) -> None:
        self.recordings: dict[int, _Recording] = {}
        self.errors = _Errors()
        self.reports = 0
        self.digest = hashlib.sha256()
        # Rounded down to 2⁻⁶⁰, with the hashes of the reports.
        self.largest: list[tuple[int, str]] = []

    def exact(self) -> Fraction:
        """Its exact total, in micro-shares."""
        return sum((of.exact() for of in self.recordings.values()), Fraction(0))


@dataclass
class _Payable:
    """Payable influence of the clips that tell it, by the number of a name, in 2⁻⁶⁰ of a clip."""

    names: Counter[int] = field(default_factory=Counter)
    clips: int = 0
    of_output: int = 0
    tested: int = 0


@dataclass
class _Channel:
    lines: dict[Party, _Line] = field(default_factory=dict)
    errors: _Errors = field(default_factory=_Errors)
    payable: _Payable = field(default_factory=_Payable)
    clips: int = 0
    attributed: int = 0


class Totals:
    """What is known of all clips together. Its size grows with songs and names, and not with clips."""

    def __init__(
        self,
        by: By,
        recordings: list[tuple[Song, ...]],
        names: list[str],
        row: Callable[[PartOfClip], None] | None,
    ) -> None:
        """
        Args:
            recordings: the songs that each number of a spooled share stands for.
            names: the name that each number of a payable part stands for.
            row: takes each row of the table of evidence.
        """
        self._by, self._recordings, self._names, self._row = by, recordings, names, row
        self._parts: dict[tuple[Channel, int], tuple[tuple[Part, float], ...]] = {}
        self._channels: dict[Channel, _Channel] = {}

    def add(self, clip: SpooledClip) -> None:
        """Add a clip.

        Raises:
            StatementError: a song's splits cannot be read.
        """
        report = clip.report_sha256.hex()
        for channel, shares in clip.channels:
            into = self._channels.setdefault(channel, _Channel())
            into.clips += 1
            if not shares:
                continue
            exact = exact_shares([given.share for given in shares])
            into.attributed += sum(exact)
            of_lines: dict[Party, list[_Given]] = {}
            for given, whole in zip(shares, exact, strict=True):
                for part, fraction in self._parts_of(channel, given.recording):
                    of_lines.setdefault(part.party, []).append((given, part, whole, fraction))
            for party, given_parts in of_lines.items():
                if (line := into.lines.get(party)) is None:
                    line = into.lines[party] = _Line()
                _add_to_line(line, report, given_parts)
                if self._row is not None:
                    self._add_rows(self._row, report, clip.audio_sha256.hex(), channel, given_parts)
            into.errors.add([(given, 1.0) for given in shares])
        if clip.payable is not None:
            self._add_payable(clip.payable)

    def _add_payable(self, payable: SpooledPayable) -> None:
        for channel, parts in payable.channels:
            of = self._channels[channel].payable
            of.clips += 1
            of.of_output += payable.of_output
            of.tested += payable.tested
            for (number, _), part in zip(parts, exact_shares([part for _, part in parts]), strict=True):
                of.names[number] += part

    def _parts_of(self, channel: Channel, recording: int) -> tuple[tuple[Part, float], ...]:
        key = channel, recording
        if key not in self._parts:
            parts = parts_of(self._recordings[recording], self._by, channel)
            self._parts[key] = tuple((part, float(part.fraction)) for part in parts)
        return self._parts[key]

    def _add_rows(
        self, row: Callable[[PartOfClip], None], report: str, audio: str, channel: Channel, given: list[_Given]
    ) -> None:
        for share, part, _, fraction in given:
            songs = self._recordings[share.recording]
            row(PartOfClip(report, audio, channel, part.party, songs, part.split, share.share, share.share * fraction))

    def channels(self) -> dict[Channel, ChannelStatement]:
        """Round everything, and give the lines, largest first."""
        return {channel: self._channel(channel, of) for channel, of in self._channels.items()}

    def _channel(self, channel: Channel, of: _Channel) -> ChannelStatement:
        total = of.clips * MICRO
        payable, unlisted = self._payable(of.payable)
        # By name, so that equal remainders are rounded up for the same lines whatever the order of reading.
        parties = sorted({*of.lines, *payable})
        for party in parties:
            of.lines.setdefault(party, _Line())
        rest = Fraction(of.clips * ONE - of.attributed) * MICRO / ONE
        *rounded, unattributed = micro_shares([*(of.lines[party].exact() for party in parties), rest], total)
        lines = [
            self._line(
                channel, party, of.lines[party], micro, of.clips, payable.get(party, 0) if of.payable.clips else None
            )
            for party, micro in zip(parties, rounded, strict=True)
        ]
        low, high = of.errors.interval(total - unattributed, of.clips)
        subject, right = RIGHTS[channel]
        return ChannelStatement(
            subject=subject,
            right=right,
            clips=of.clips,
            unattributed=unattributed,
            unattributed_low=None if high is None else total - high,
            unattributed_high=None if low is None else total - low,
            other_lines=0,
            payable=PayableInfluence(
                clips=of.payable.clips,
                of_output=of.payable.of_output,
                tested=of.payable.tested,
                unlisted=unlisted,
                other_lines=0,
            )
            if of.payable.clips
            else None,
            lines=tuple(
                sorted(lines, key=lambda line: (-line.micro_shares, -(line.payable or 0), line.kind, line.names))
            ),
        )

    def _payable(self, of: _Payable) -> tuple[dict[Party, int], int]:
        """Round the payable influence of each party to micro-shares; gives them, and what no party gets."""
        exact: Counter[Party] = Counter()
        for number, amount in of.names.items():
            if (party := self._party(self._names[number])) is not None:
                exact[party] += amount
        parties = sorted(exact)
        amounts = [*(exact[party] for party in parties), of.clips * ONE - exact.total()]
        *rounded, unlisted = micro_shares([Fraction(amount) * MICRO / ONE for amount in amounts], of.clips * MICRO)
        return dict(zip(parties, rounded, strict=True)), unlisted

    def _party(self, name: str) -> Party | None:
        """The party that a name of payable influence is, as shares have it; None for a name of spaces."""
        if self._by == "song":
            return Party("named", self._ids_of.get(name, (name,)))
        return Party("named", (one_way(name),)) if one_way(name) else None

    @cached_property
    def _ids_of(self) -> dict[str, tuple[str, ...]]:
        """All ids of the recording that a song id is one of."""
        parties = {parts_of(songs, "song", "P")[0].party: songs for songs in self._recordings}
        return {song.song_id: party.names for party, songs in parties.items() for song in songs}

    def _line(self, channel: Channel, party: Party, of: _Line, micro: int, clips: int, payable: int | None) -> Line:
        low, high = of.errors.interval(micro, clips)
        # Not by their numbers, which depend on the order of reading.
        numbers = sorted(of.recordings, key=lambda number: repr(self._recordings[number]))
        exact = [of.recordings[number].exact() for number in numbers]
        songs = [
            self._song(channel, number, of.recordings[number], given)
            for number, given in zip(numbers, micro_shares(exact, micro), strict=True)
        ]
        return Line(
            kind=party.kind,
            names=party.names,
            micro_shares=micro,
            low=low,
            high=high,
            payable=payable,
            evidence=Evidence(
                reports=of.reports,
                sha256=of.digest.hexdigest(),
                largest=tuple(
                    Link(report_sha256=report, micro_shares=share * MICRO // ONE)
                    for share, report in sorted(of.largest, key=lambda one: (-one[0], one[1]))
                ),
            ),
            songs=tuple(sorted(songs, key=lambda song: (-song.micro_shares, song.song_ids))),
        )

    def _song(self, channel: Channel, number: int, of: _Recording, micro: int) -> SongLine:
        songs = self._recordings[number]
        first = songs[0]
        return SongLine(
            song_ids=tuple(song.song_id for song in songs),
            title=first.title,
            creator=first.creator,
            code=first.iswc if channel == "P" else first.isrc,
            split=of.part.split,
            micro_shares=micro,
            reports=of.reports,
        )


def _add_to_line(line: _Line, report: str, given: list[_Given]) -> None:
    line.reports += 1
    line.digest.update(f"{report}\n".encode())
    exact = 0
    for share, part, whole, _ in given:
        exact += whole * part.fraction.numerator // part.fraction.denominator
        if (recording := line.recordings.get(share.recording)) is None:
            recording = line.recordings[share.recording] = _Recording(part)
        recording.shares += whole
        recording.reports += 1
    push = heapq.heappush if len(line.largest) < LARGEST else heapq.heappushpop
    push(line.largest, (exact, report))
    line.errors.add([(share, fraction) for share, _, _, fraction in given])
