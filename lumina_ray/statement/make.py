"""Makes a statement of many reports, and a holder's statement of a whole one."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lumina_ray.errors import StatementError
from lumina_ray.statement.json import statement_sha256
from lumina_ray.statement.lineage import Lineage
from lumina_ray.statement.lines import Clip, PayableParts, Song
from lumina_ray.statement.parties import payable_by
from lumina_ray.statement.reading import Read
from lumina_ray.statement.schema import Basis, ChannelStatement, Repeat, Reports, Snapshot, Statement
from lumina_ray.statement.spool import Spool, SpooledClip, SpooledPayable, SpooledShare
from lumina_ray.statement.totals import PartOfClip, Totals
from lumina_ray.statement.words import By
from lumina_ray.vocabulary import Channel, counted

_NAMED_FAULTS = 10
_NAMED_REPEATS = 100


def make_statement(
    reads: Iterable[Read],
    by: By,
    period: str,
    lineage: Lineage,
    *,
    signed_by: str | None = None,
    row: Callable[[PartOfClip], None] | None = None,
) -> Statement:
    """Add reports up. The order in which they come changes nothing.

    Args:
        by: whom a share goes to; see `lumina_ray.statement.parties.parts_of`.
        period: as `check_period` takes it.
        lineage: which reports may be added up.
        signed_by: the key whose signature each report was found to have.
        row: takes each row of the table of evidence, in the order of the hashes of the audio.

    Raises:
        StatementError: there is no report; some are damaged (all are read, and up to ten named); two cannot be added
            up; a song's splits cannot be read.
    """
    with Spool() as spool:
        first, recordings, names = _spool_all(reads, by, spool, lineage)
        totals, facts, counts = Totals(by, recordings, names, row), _Facts(), _Counts()
        for same in spool.by_audio():
            totals.add(same[0])
            facts.add(same[0])
            counts.add(same)
        return Statement(
            period=period,
            by=by,
            holder=None,
            whole_sha256=None,
            basis=facts.basis(first, lineage.catalog),
            reports=counts.reports(signed_by),
            channels=totals.channels(),
        )


def for_holder(whole: Statement, name: str) -> Statement:
    """The lines of a whole statement that name one holder, contested ones among them.

    Raises:
        StatementError: no line names them, or the statement is no whole one.
    """
    if whole.holder is not None:
        raise StatementError(f"this is the statement of {whole.holder[:80]!r}, and no whole one; take the whole one")
    channels = {channel: _of_holder(of, name) for channel, of in whole.channels.items()}
    if not any(channel.lines for channel in channels.values()):
        raise StatementError(f"no line of the statement names {name[:80]!r}; names are told apart by every character")
    return Statement.model_validate(
        dict(whole) | {"holder": name, "whole_sha256": statement_sha256(whole), "channels": channels}
    )


def holders(whole: Statement) -> list[str]:
    """All names in a statement's lines, those with the most micro-shares first."""
    amounts: Counter[str] = Counter()
    for channel in whole.channels.values():
        for line in channel.lines:
            for name in line.names:
                amounts[name] += line.micro_shares
    return sorted(amounts, key=lambda name: (-amounts[name], name))


def _of_holder(of: ChannelStatement, name: str) -> ChannelStatement:
    own = tuple(line for line in of.lines if name in line.names)
    left_out = [line for line in of.lines if name not in line.names]
    changed: dict[str, Any] = {"lines": own, "other_lines": sum(line.micro_shares for line in left_out)}
    if of.payable is not None:
        others = sum(line.payable or 0 for line in left_out)
        changed["payable"] = of.payable.model_copy(update={"other_lines": others})
    return ChannelStatement.model_validate(dict(of) | changed)


def _spool_all(
    reads: Iterable[Read], by: By, spool: Spool, lineage: Lineage
) -> tuple[Clip, list[tuple[Song, ...]], list[str]]:
    """Spool all reports; gives one of them, and the songs and names behind each number of what is spooled."""
    first: Clip | None = None
    numbers: dict[tuple[Song, ...], int] = {}
    names: dict[str, int] = {}
    faults: list[str] = []
    n_faults = 0
    for read in reads:
        if read.clip is None:
            n_faults += 1
            if len(faults) < _NAMED_FAULTS:
                faults.append(read.fault or read.name)
            continue
        if n_faults:
            # There will be no statement: what else is damaged is all there is to find out.
            continue
        lineage.check(read.clip, read.name)
        first = first or read.clip
        spool.add(_spooled(read.clip, by, numbers, names))
    if faults:
        more = f" and {n_faults - len(faults)} more" if n_faults > len(faults) else ""
        raise StatementError(f"{counted(n_faults, 'report')} cannot be added up: {'; '.join(sorted(faults))}{more}")
    if first is None:
        raise StatementError("there is no report to be added up; name files, folders or patterns that hold some")
    return first, list(numbers), list(names)


def _spooled(clip: Clip, by: By, numbers: dict[tuple[Song, ...], int], names: dict[str, int]) -> SpooledClip:
    return SpooledClip(
        clip.audio_sha256,
        clip.report_sha256,
        (clip.snapshot.index_version, clip.snapshot.index_key, clip.snapshot.calibration_sha256),
        hashlib.sha256(clip.environment.encode("utf-8", "surrogatepass")).hexdigest(),
        clip.membership,
        clip.warnings,
        clip.payable and _spooled_payable(clip.payable, by, [channel for channel, _ in clip.channels], names),
        tuple(
            (
                channel,
                tuple(
                    SpooledShare(numbers.setdefault(of.songs, len(numbers)), of.share, of.own_sd, of.drawn)
                    for of in shares
                ),
            )
            for channel, shares in clip.channels
        ),
    )


def _spooled_payable(
    payable: PayableParts, by: By, channels: Sequence[Channel], names: dict[str, int]
) -> SpooledPayable:
    return SpooledPayable(
        payable.of_output,
        payable.tested,
        tuple(
            (
                channel,
                tuple(
                    (names.setdefault(name, len(names)), part)
                    for name, part in payable.parts.get(payable_by(by, channel), ())
                ),
            )
            for channel in channels
        ),
    )


class _Facts:
    """What the counted reports have, counted."""

    def __init__(self) -> None:
        self._snapshots: Counter[tuple[str, str, str]] = Counter()
        self._environments: set[str] = set()
        self._membership = 0
        self._warnings: Counter[str] = Counter()

    def add(self, clip: SpooledClip) -> None:
        self._snapshots[clip.snapshot] += 1
        self._environments.add(clip.environment)
        self._membership += clip.membership
        self._warnings.update(clip.warnings)

    def basis(self, of: Clip, catalog: str | None) -> Basis:
        settings = of.settings
        return Basis(
            report_format=settings.report_format,
            weights_sha256=settings.weights_sha256,
            specification_sha256=settings.specification_sha256,
            policy=settings.policy,
            published=of.published,
            ridge=repr(settings.ridge),
            top_k=settings.top_k,
            catalog=catalog,
            snapshots=tuple(
                Snapshot(index_version=version, index_key=key, calibration_sha256=calibration, reports=n)
                for (version, key, calibration), n in sorted(self._snapshots.items())
            ),
            environments=len(self._environments),
            with_membership=self._membership,
            warnings=dict(sorted(self._warnings.items())),
        )


class _Counts:
    """The reports that count, and those that do not."""

    def __init__(self) -> None:
        self._counted, self._digest = 0, hashlib.sha256()
        self._same_report = self._same_audio = 0
        self._repeats: list[Repeat] = []

    def add(self, same: list[SpooledClip]) -> None:
        """Count the first of all reports of one audio, which come in the order of their hashes."""
        counts = same[0].report_sha256
        self._counted += 1
        self._digest.update(f"{counts.hex()}\n".encode())
        for i, other in enumerate(same[1:]):
            if other.report_sha256 == same[i].report_sha256:
                self._same_report += 1
                continue
            self._same_audio += 1
            if len(self._repeats) < _NAMED_REPEATS:
                self._repeats.append(Repeat(report_sha256=other.report_sha256.hex(), counted_sha256=counts.hex()))

    def reports(self, signed_by: str | None) -> Reports:
        return Reports(
            counted=self._counted,
            sha256=self._digest.hexdigest(),
            same_report=self._same_report,
            same_audio=self._same_audio,
            repeats=tuple(self._repeats),
            signed_by=signed_by,
        )
