"""The part of an attribution report that a statement reads. No other module of this package knows a report's format.

Whoever changes the format changes `read_clip`: a statement wants the hash of a report and of its audio, the settings
that must be equal for reports to be added up, and for each channel the songs with a share.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError
from pydantic_core import from_json, to_json
from scipy.special import bdtrc

from lumina_ray.attribution import Candidate, ChannelReport, GroupEffect, GroupFacts, InfluenceFinding, Report
from lumina_ray.attribution.intervals import MIN_STRETCHES, quantile
from lumina_ray.attribution.policies import shares_of
from lumina_ray.calibration import ALPHA, Guarantee, bar_rank
from lumina_ray.errors import StatementError
from lumina_ray.vocabulary import Channel

LEVELS = 20
"""Draws of the controls that a share is computed for, at equally likely ranks: the first and the last are the ends of a
central 95 % interval."""

# Shares and the unattributed rest are sums of as many float64 as there are songs.
_ROUNDING = 1e-9
# A query that a client hands in may be longer than 1 by a little.
_MOST = 1.001
_PLAIN_SMALL = re.compile(rb"0\.0000[0-9]+")
_SHORT_EXPONENT = re.compile(rb"e-([0-9])(?=[,\]}])")
_HEX32 = re.compile(r"[0-9a-f]{64}")


class Song(NamedTuple):
    """A song, as the report names it."""

    song_id: str
    title: str | None
    creator: str | None
    isrc: str | None
    iswc: str | None
    publisher: str | None
    master_owner: str | None
    splits: str | None


class Share(NamedTuple):
    """The share of a recording in one clip and channel.

    Attributes:
        songs: the song that the share is given to, and all others of equal audio.
        share: 0 to 1.
        own_sd: standard deviation of the part of the share's error that no other clip has: of the draws of its
            stretches. None where `drawn` is None.
        drawn: the share under each of `LEVELS` draws of the controls, float64, descending: the part of the error that
            all clips have in common. None for a published rule, and where too many songs qualify.
    """

    songs: tuple[Song, ...]
    share: float
    own_sd: float | None
    drawn: tuple[float, ...] | None


class PayableParts(NamedTuple):
    """Payable influence of a report: the effect of songs whose use is not refuted.

    Attributes:
        of_output: whether it is of the model's output in general, and not of the clip.
        tested: whether use was measured; without, no song's use is refuted.
        parts: by what a party is to a song, such as "publisher", or "song": the part of each that the report lists,
            above 0 and together at most 1.
    """

    of_output: bool
    tested: bool
    parts: dict[str, tuple[tuple[str, float], ...]]


class Settings(NamedTuple):
    """Choices that must be equal for reports to be added up, besides the catalog."""

    report_format: int
    weights_sha256: str
    specification_sha256: str
    policy: str
    ridge: float
    top_k: int


class SnapshotName(NamedTuple):
    """The snapshot of a catalog that a report was made from."""

    index_version: str
    index_key: str
    calibration_sha256: str


class Clip(NamedTuple):
    """One report, as a statement reads it.

    Attributes:
        report_sha256, audio_sha256: 32 bytes each.
        environment: of what computed the report; equal for equal devices and software.
        membership: whether the report has membership evidence.
        published: whether its policy is a published rule, which deducts no noise.
        warnings: codes of the report's warnings, each once.
        payable: None where the report tells no influence, or was written before reports told what of it is payable.
        channels: the songs with a share in each.
    """

    report_sha256: bytes
    audio_sha256: bytes
    settings: Settings
    snapshot: SnapshotName
    environment: str
    membership: bool
    published: bool
    warnings: tuple[str, ...]
    payable: PayableParts | None
    channels: tuple[tuple[Channel, tuple[Share, ...]], ...]


def read_clip(data: bytes, name: str) -> Clip:
    """Read what a statement needs of a report's file, which errors call `name`.

    Raises:
        StatementError: no report of this format version, not its bytes as they were written, about a part of the
            catalog, or one that contradicts itself.
    """
    report = _parsed(data, name)
    if report.unsearched:
        raise StatementError(
            f"{name}: is about a part of the catalog, as the rest did not answer; attribute the audio again"
        )
    if not _HEX32.fullmatch(report.query.audio_sha256):
        raise StatementError(f"{name}: names no SHA-256 of its audio; is it damaged? Attribute the audio again")
    basis, policy = report.basis, report.policy
    return Clip(
        report_sha256=hashlib.sha256(data).digest(),
        audio_sha256=bytes.fromhex(report.query.audio_sha256),
        settings=Settings(
            report.format_version,
            basis.weights_sha256,
            basis.specification_sha256,
            policy.name,
            policy.ridge,
            policy.top_k,
        ),
        snapshot=SnapshotName(basis.index_version, basis.index_key, basis.calibration_sha256),
        environment=repr((sorted(basis.environment.items()), sorted(basis.software.items()))),
        membership=basis.membership is not None,
        published=policy.published,
        warnings=tuple(
            sorted({warning.code for channel in report.near_copies.values() for warning in channel.warnings})
        ),
        payable=_payable(report.influence, name),
        channels=tuple(
            (channel, tuple(_shares(answer, len(report.query.chunks), f"{name}, channel {channel}")))
            for channel, answer in report.near_copies.items()
        ),
    )


def _parsed(data: bytes, name: str) -> Report:
    """A report, checked as `lumina_ray.report.json.parse_report` does, in a third of its time."""
    advice = "restore the file as it was written, or attribute the audio again"
    try:
        values = from_json(data, allow_inf_nan=False)
        report = Report.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise StatementError(
            f"{name}: not an attribution report of this software version ({place}{': ' if place else ''}"
            f"{first['msg']}); {advice}"
        ) from error
    except ValueError as error:
        raise StatementError(f"{name}: not an attribution report ({error}); {advice}") from error
    if report.model_dump(mode="json") != values or not _is_canonical(values, data):
        raise StatementError(f"{name}: not the bytes of a report as it was written (canonical JSON); {advice}")
    return report


def _is_canonical(values: Any, data: bytes) -> bool:
    """Whether bytes are the canonical JSON of the values that they were parsed to: sorted keys, none of them twice."""
    # Rust writes small numbers otherwise than Python: 0.00001 and 1e-7 for 1e-05 and 1e-07.
    written = to_json(values)
    written = _SHORT_EXPONENT.sub(rb"e-0\1", _PLAIN_SMALL.sub(_as_python, written))
    if written != data:
        # A title may look like such a number.
        text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass") == data
    return _is_sorted(values)


def _as_python(found: re.Match[bytes]) -> bytes:
    before = found.string[max(0, found.start() - 1) : found.start()]
    return repr(float(found[0])).encode() if before in (b":", b",", b"[", b"-") else found[0]


def _is_sorted(report: dict[str, Any]) -> bool:
    """Whether all keys of a report's parsed JSON are in order, of a report that has been found to have its fields."""
    waiting = [report]
    for channel in report["near_copies"].values():
        for candidate in channel["candidates"]:
            # Nearly all of a report's objects are these two, so they are not searched for others.
            if not (_are_sorted(tuple(candidate)) and _are_sorted(tuple(candidate["song"]))):
                return False
            waiting += candidate["equal_songs"]
            waiting += [candidate[name] for name in ("membership", "group") if candidate[name]]
    while waiting:
        of = waiting.pop()
        if not _are_sorted(tuple(of)):
            return False
        for key, value in of.items():
            kind = type(value)
            if kind is dict:
                waiting.append(value)
            elif kind is list and key != "candidates":
                waiting += [item for item in value if type(item) is dict]
    return True


@lru_cache(maxsize=1024)
def _are_sorted(keys: tuple[str, ...]) -> bool:
    return all(one <= other for one, other in pairwise(keys))


def _shares(channel: ChannelReport, n_stretches: int, name: str) -> Iterator[Share]:
    given = [candidate for candidate in channel.candidates if candidate.share > 0]
    total = sum(candidate.share for candidate in given)
    if given and not channel.noise.control_maxima:
        raise StatementError(f"{name}: names no controls; attribute the audio again")
    if any(candidate.share < 0 for candidate in channel.candidates) or not (
        abs(total + channel.unattributed - 1) <= _ROUNDING and channel.unattributed >= -_ROUNDING
    ):
        raise StatementError(
            f"{name}: shares {total:.9g} and unattributed {channel.unattributed:.9g} do not add up to 1; "
            "attribute the audio again"
        )
    _check_groups(given, name)
    # Without an interval of a clip that is long enough, too many songs qualify for any.
    measured = [
        c
        for c in given
        if None not in (c.explained, c.threshold_slope) and (c.share_low is not None or n_stretches < MIN_STRETCHES)
    ]
    drawn_of = dict(zip(map(id, measured), drawn_shares(measured, channel), strict=True)) if measured else {}
    for candidate in given:
        own_sd, drawn = None, drawn_of.get(id(candidate))
        if drawn is not None:
            low, high = candidate.share_low, candidate.share_high
            if low is None or high is None:
                low, high = 0.0, candidate.share
                own_sd = largest_error(candidate.share)
            else:
                own_sd = (high - low) / (2 * quantile(n_stretches))
            # Also false for what is no number.
            if not (0 <= low <= high <= _MOST and 0 <= drawn[-1] <= drawn[0] <= _MOST):
                raise StatementError(
                    f"{name}: the interval of a share, {low:.9g} to {high:.9g}, does not fit its similarity and the "
                    "controls; attribute the audio again"
                )
        yield Share(
            songs=tuple(
                Song(
                    song.song_id,
                    song.title,
                    song.creator,
                    song.isrc,
                    song.iswc,
                    song.publisher,
                    song.master_owner,
                    song.splits,
                )
                for song in (candidate.song, *candidate.equal_songs)
            ),
            share=candidate.share,
            own_sd=own_sd,
            drawn=drawn,
        )


def _payable(finding: InfluenceFinding | None, name: str) -> PayableParts | None:
    if finding is None or finding.catalog.payable is None:
        return None
    groups: list[tuple[str, tuple[GroupEffect, ...]]] = [*finding.parties.items(), ("song", finding.songs)]
    parts = {by: tuple((of.name or "", of.payable or 0.0) for of in listed) for by, listed in groups}
    for listed in parts.values():
        # Also false for what is no number.
        if not (all(part >= 0 for _, part in listed) and sum(part for _, part in listed) <= 1 + _ROUNDING):
            raise StatementError(f"{name}: more than all influence is payable; attribute the audio again")
    return PayableParts(
        finding.of == "output",
        finding.refuted is not None,
        {by: tuple((whose, part) for whose, part in listed if part > 0) for by, listed in parts.items()},
    )


def _check_groups(given: Sequence[Candidate], name: str) -> None:
    """Check that each group of near copies is paid once: its songs' shares add up to the group's."""
    paid: dict[GroupFacts, float] = {}
    for candidate in given:
        if candidate.group is not None:
            paid[candidate.group] = paid.get(candidate.group, 0.0) + candidate.share
    listed = [song_id for group in paid for song_id in group.song_ids]
    if (
        len(set(listed)) != len(listed)
        or any(c.song.song_id not in c.group.song_ids for c in given if c.group is not None)
        or not all(abs(total - group.share) <= _ROUNDING for group, total in paid.items())
    ):
        raise StatementError(
            f"{name}: the shares of near copies do not add up to that of their group; attribute the audio again"
        )


def drawn_shares(candidates: Sequence[Candidate], channel: ChannelReport) -> list[tuple[float, ...]]:
    """Compute the share of each candidate under each of `LEVELS` draws of the controls, descending.

    With other controls, the standard score that songs must exceed moves by the same number for all: so shares of all
    clips and songs are large, or small, in the same draws. Of near copies, which are paid as one song, what lies above
    the noise is that of the one that stands for them.

    Args:
        candidates: all with a share in the channel, with `explained`, that is of policy `calibrated`.
    """
    noise = channel.noise
    moved = _moved(noise.control_maxima, noise.critical, noise.guarantee)
    stands_for = _representatives(candidates)
    similarity, threshold, slope = np.array(
        [(c.similarity, c.threshold, c.threshold_slope) for c in stands_for], dtype=np.float64
    ).T
    explained = np.array([c.explained for c in candidates], dtype=np.float64)
    with np.errstate(all="ignore"):
        # What is no number then is refused by the caller: songs with a share have a similarity above 0.
        thresholds_kL = threshold[:, None] + np.outer(slope, moved)
        drawn_kL = shares_of(explained[:, None], similarity[:, None], thresholds_kL, channel.self_likeness)
    # Where shares are divided by their sum, one may rise a little as the threshold does.
    return [tuple(sorted(drawn, reverse=True)) for drawn in drawn_kL.tolist()]


def _representatives(candidates: Sequence[Candidate]) -> list[Candidate]:
    """For each candidate with a share, the one that stands for its group: as `lumina_ray.attribution.groups` has it."""
    best: dict[tuple[str, ...], Candidate] = {}
    for candidate in candidates:
        if candidate.group is not None:
            other = best.setdefault(candidate.group.song_ids, candidate)
            # All that are paid have a share. Of equal scores, the first of the search counts: the most similar one.
            if (candidate.standard_score, candidate.similarity) > (other.standard_score, other.similarity):
                best[candidate.group.song_ids] = candidate
    return [c if c.group is None else best[c.group.song_ids] for c in candidates]


@lru_cache(maxsize=16)
def _moved(control_maxima: tuple[float, ...], critical: float, guarantee: Guarantee) -> np.ndarray:
    """By how much the standard score that songs must exceed moves in each draw, float64 `[LEVELS]`, ascending."""
    maxima = np.sort(np.array(control_maxima))[::-1]
    return maxima[_drawn_ranks(len(maxima), guarantee)] - critical


@lru_cache(maxsize=64)
def _drawn_ranks(n_controls: int, guarantee: Guarantee) -> np.ndarray:
    """Ranks, descending, of the control whose best match is the threshold of a draw, int64 `[LEVELS]`.

    The threshold is the m-th largest of C controls. Of C that are drawn with replacement, the m-th largest is among the
    r largest there were with the probability that a binomial variable of C trials at r/C is at least m.
    """
    m = max(1, bar_rank(n_controls, ALPHA, guarantee))
    # The probability that such a variable is above m − 1.
    at_most_C = bdtrc(m - 1, n_controls, np.arange(1, n_controls + 1) / n_controls)
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return np.minimum(np.searchsorted(at_most_C, levels), n_controls - 1)[::-1].copy()


def largest_error(share: float) -> float:
    """Standard deviation of the own error of a share without an interval: the largest that it can have.

    A number between 0 and 1 with this mean varies most where it is 0 or 1 and nothing between.
    """
    return math.sqrt(max(0.0, share * (1 - share)))
