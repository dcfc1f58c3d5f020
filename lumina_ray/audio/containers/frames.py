"""Streams of frames without a container: MPEG audio (MP3 among it) and AAC in ADTS frames.

A stream is walked from frame to frame, so that what is between and before frames, such as tags or an error page, is
never decoded, and so that a file joined from several ones is decoded one after another. What such a file promises is
only in the Xing, Info or VBRI header that an encoder may write into the first frame of an MP3.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from lumina_ray.audio.containers.part import TAGS, Part, only_zeros, truncated, undecodable
from lumina_ray.audio.view import View

# So much may come before the first frame, or between two.
_MAX_JUNK_BYTES = 1 << 16
# More than any frame has. Tags apart, so much that is none is a hole, or another file.
_MAX_GAP_BYTES = 1 << 12
_APE_HEADER = 1 << 29
# Some encoders pad a frame by more than it says.
_PADDING_BYTES = 4
_FRAMES_TAGS = (*TAGS, b"LYRICSBEGIN")
# So many frames in a row are no accident.
_CONSISTENT = 3
# So much of a file must be frames: others hold them too, such as films.
_LEAST_PART = 8
# Encoders count the frame of the header in, or do not.
_SLACK_FRAMES = 1
MAX_PARTS = 1000
# As far as a Xing header goes.
_HEAD_BYTES = 192


class Frame(NamedTuple):
    """A frame's header: its bytes, its samples, and what must stay the same within a stream."""

    n_bytes: int
    samples: int
    rate_hz: int
    kind: tuple[int, ...]
    padding: int = 0


# A frame begins with eleven bits, and no third byte is full of them.
_SYNC = re.compile(rb"\xff(?=[\xe0-\xff][^\xff])", re.DOTALL)
Pieces = list[tuple[int, int] | bytes]
ParseFrame = Callable[[bytes], Frame | None]

_BIT_RATES = {
    # (MPEG-1, layer): kbit/s by index.
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _mpeg_frames() -> dict[bytes, tuple[Frame, Frame]]:
    """Every frame header of MPEG audio by its second and third byte: for stereo, and for mono."""
    frames = {}
    for second in range(0xE0, 0x100):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        if version == 1 or layer == 4:
            continue
        first = version == 3
        samples = 384 if layer == 1 else 1152 if first or layer == 2 else 576
        for third in range(256):
            bit_rate, rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
            if bit_rate in (0, 15) or rate == 3:
                continue
            rate_hz = _RATES_HZ[version][rate]
            bits_per_s = _BIT_RATES[first, layer][bit_rate - 1] * 1000
            slot = 4 if layer == 1 else 1
            n_bytes = (samples // 8 // slot * bits_per_s // rate_hz + padding) * slot
            kinds = [(version, layer, rate_hz, channels) for channels in (2, 1)]
            stereo, mono = (Frame(n_bytes, samples, rate_hz, kind, padding * slot) for kind in kinds)
            frames[bytes((0xFF, second, third))] = stereo, mono
    return frames


_MPEG_FRAMES = _mpeg_frames()


def parse_mpeg(head: bytes) -> Frame | None:
    """Parse the header of a frame of MPEG audio; free bit rates are not known."""
    found = _MPEG_FRAMES.get(head[:3])
    return found[head[3] >> 6 == 3] if found and len(head) > 3 else None


_ADTS_RATES_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


def parse_adts(head: bytes) -> Frame | None:
    """Parse the header of a frame of AAC."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    rate, channels = head[2] >> 2 & 15, (head[2] & 1) << 2 | head[3] >> 6
    n_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if rate >= len(_ADTS_RATES_HZ) or n_bytes < 7:
        return None
    rate_hz = _ADTS_RATES_HZ[rate]
    return Frame(n_bytes, 1024 * (1 + (head[6] & 3)), rate_hz, (head[2] >> 6, rate_hz, channels))


@dataclass
class _Run:
    """Consecutive frames of one kind, after what an encoder wrote into a frame before them."""

    frame: Frame
    header: tuple[int, int] | None
    tag: "_Xing"
    pieces: list[tuple[int, int]] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    frames: int = 0
    samples: int = 0

    def add(self, at: int, frame: Frame) -> None:
        end = at + frame.n_bytes
        if self.pieces and self.pieces[-1][1] == at:
            self.pieces[-1] = self.pieces[-1][0], end
        else:
            self.pieces.append((at, end))
        self.sizes.add(frame.n_bytes - frame.padding)
        self.frames += 1
        self.samples += frame.samples


def mpeg(view: View, label: str) -> list[Part]:
    """Examine a stream of MPEG audio: layers 1 to 3.

    Raises:
        AudioError: fewer frames than a header promises ("audio.truncated"), or hardly any frames.
    """
    runs: list[_Run] = []
    for at, frame in _walk(view, parse_mpeg, label):
        tag = _xing(view.at(at, _HEAD_BYTES)) if frame.kind[1] == 3 else None
        if tag:
            runs.append(_Run(frame, (at, at + frame.n_bytes), tag))
            _limit(runs, label)
            continue
        if not runs or runs[-1].frame.kind != frame.kind:
            runs.append(_Run(frame, None, _NO_TAG))
        runs[-1].add(at, frame)
        _limit(runs, label)
    _require_frames(view, runs, label)
    parts = []
    for run in runs:
        promised = run.tag.frames if run.tag.frames is not None else run.frames
        slack = 0 if run is runs[-1] and _ends_within_a_frame(view, run) else _SLACK_FRAMES
        if run.frames < promised - slack:
            raise truncated(label, f"its header promises {promised} frames", f"there are {run.frames}")
        if not run.frames:
            continue
        if run.tag.frames is None or run.frames > promised + _SLACK_FRAMES:
            _require_row(view, run, label)
        pieces: Pieces = [*run.pieces]
        samples = run.samples
        # A header that promises fewer frames was written for something else; it would make the decoder end early.
        if run.header and run.frames <= promised + _SLACK_FRAMES:
            pieces, samples = _with(run.header, pieces), max(samples - run.tag.padding, 0)
        elif len(run.sizes) > 1:
            pieces.insert(0, _header_of(view, run))
        duration_s = samples / run.frame.rate_hz
        parts.append(Part(view.cut(pieces), sndfile=True, duration_s=duration_s, stated=True))
    return parts


def _require_row(view: View, run: _Run, label: str) -> None:
    """Check that frame follows frame where no header says how many there are; only tags may lie between.

    Raises:
        AudioError: something else does ("audio.truncated").
    """
    for (_, end), (begin, _) in pairwise(run.pieces):
        between = view.at(end, min(begin - end, _MAX_GAP_BYTES))
        if len(between) > _PADDING_BYTES and not _has_tag(between):
            raise truncated(label, "its frames follow each other", f"{begin - end} bytes at byte {end} are none")


def _ends_within_a_frame(view: View, run: _Run) -> bool:
    end = run.pieces[-1][1] if run.pieces else view.size
    return end < view.size and parse_mpeg(view.at(end, 4)) is not None


def _with(header: tuple[int, int], pieces: Pieces) -> Pieces:
    first = pieces[0]
    if not isinstance(first, bytes) and first[0] == header[1]:
        return [(header[0], first[1]), *pieces[1:]]
    return [header, *pieces]


def _header_of(view: View, run: _Run) -> bytes:
    """Write the frame that a stream of a varying bit rate lacks: libsndfile would guess its length, and end there."""
    head = view.at(run.pieces[0][0], 4)
    head = bytes((0xFF, head[1] | 1, 9 << 4 | head[2] & 0x0C, head[3]))
    frame = parse_mpeg(head)
    if frame is None or run.frame.kind[1] != 3:
        return b""
    n_bytes = frame.n_bytes + sum(end - begin for begin, end in run.pieces)
    xing = struct.pack(">4sIII", b"Xing", 3, run.frames, n_bytes)
    return (head + bytes(_side_bytes(frame)) + xing).ljust(frame.n_bytes, b"\0")


def adts(view: View, label: str) -> list[Part]:
    """Examine a stream of AAC in ADTS frames. Such a stream promises nothing."""
    runs: list[_Run] = []
    for at, frame in _walk(view, parse_adts, label):
        if not runs or runs[-1].frame.kind != frame.kind:
            runs.append(_Run(frame, None, _NO_TAG))
        runs[-1].add(at, frame)
        _limit(runs, label)
    _require_frames(view, runs, label)
    for run in runs:
        _require_row(view, run, label)
    return [Part(view.cut(run.pieces), duration_s=run.samples / run.frame.rate_hz) for run in runs]


def _limit(runs: list[_Run], label: str) -> None:
    if len(runs) > MAX_PARTS:
        raise undecodable(label, f"more than {MAX_PARTS} pieces of different kinds; re-encode it, for example as FLAC")


def _require_frames(view: View, runs: list[_Run], label: str) -> None:
    covered = sum(end - begin for run in runs for begin, end in [*run.pieces, *([run.header] if run.header else [])])
    if covered < view.size // _LEAST_PART:
        raise undecodable(label, f"only {covered} of its {view.size} bytes are frames of audio; fetch it again")


def find_frame(view: View, parse: ParseFrame, begin: int = 0, end: int = _MAX_JUNK_BYTES) -> int | None:
    """The offset of the first of several frames in a row, or None where there are none.

    Args:
        begin, end: where to look, at most 64 KiB: each byte of some files looks like the beginning of a frame.
    """
    window = view.at(begin, min(end - begin, _MAX_JUNK_BYTES))
    starts = (begin + found.start() for found in _SYNC.finditer(window))
    return next((at for at in starts if _consistent(view, parse, at)), None)


def _consistent(view: View, parse: ParseFrame, at: int) -> bool:
    kind = None
    for number in range(_CONSISTENT):
        frame = parse(view.at(at, 7))
        if frame is None or kind not in (None, frame.kind):
            # The file may end before that many.
            return bool(number) and 0 <= view.size - at < 8
        kind = frame.kind
        at += frame.n_bytes
    return True


def _walk(view: View, parse: ParseFrame, label: str) -> Iterator[tuple[int, Frame]]:
    """Offsets and headers of the frames that are there as a whole.

    Raises:
        AudioError: a hole between frames ("audio.truncated"), or something else behind them ("audio.undecodable").
    """
    at, before = _first(view, parse), None
    while at is not None and at < view.size:
        frame = parse(view.at(at, 7))
        # Another kind of frame within a stream is no accident where several follow.
        if frame is None or (before and frame.kind != before[1].kind and not _consistent(view, parse, at)):
            # Where frames begin within the last one, that one was cut.
            if before and (inside := find_frame(view, parse, before[0] + 1, at)) is not None:
                _check_cut(view, parse, before, inside, label)
                before, at = None, inside
            else:
                junk_at, at = at, _after_junk(view, parse, at)
                _check_gap(view, junk_at, at, label)
            continue
        if before:
            yield before
        if at + frame.n_bytes > view.size:
            return
        before = at, frame
        at += frame.n_bytes
    if before:
        yield before


def _first(view: View, parse: ParseFrame) -> int | None:
    """Where frames begin. One that begins the file counts, though a hole is behind it: what is there is no junk."""
    at, head = find_frame(view, parse), parse(view.at(0, 7))
    if at and head and (later := parse(view.at(at, 7))) and later.kind == head.kind:
        return 0
    return at


def _check_cut(view: View, parse: ParseFrame, before: tuple[int, Frame], at: int, label: str) -> None:
    """Check that the frames that begin within another one are those of another file: the one before may end so."""
    begin, frame = before
    after = parse(view.at(at, 7))
    joined = after is None or after.kind != frame.kind or _xing(view.at(at, _HEAD_BYTES)) is not None
    if not joined and not _has_tag(view.at(begin, at - begin)):
        found = f"{at - begin} of the {frame.n_bytes} bytes of one are there at byte {begin}"
        raise truncated(label, "its frames follow each other", found)


def _has_tag(between: bytes) -> bool:
    return any(tag in between for tag in _FRAMES_TAGS)


def _check_gap(view: View, begin: int, end: int | None, label: str) -> None:
    """Check what lies between frames, or behind the last one where `end` is None."""
    n_bytes = (view.size if end is None else end) - begin
    tagged = view.at(begin, 16).startswith(_FRAMES_TAGS)
    if n_bytes <= _MAX_GAP_BYTES or (tagged and end is not None):
        return
    # What was never fetched is zeros, and longer than is searched.
    never_fetched = not any(view.at(begin, _MAX_JUNK_BYTES)) and not only_zeros(view, begin)
    if end is not None or never_fetched:
        raise truncated(label, "its frames follow each other", f"{n_bytes} bytes at byte {begin} are none")
    # Some writers fill the last block of a disk.
    if n_bytes - _tag_bytes(view, begin) > _MAX_JUNK_BYTES or not (tagged or only_zeros(view, begin)):
        raise undecodable(
            label, f"{n_bytes} bytes behind its last frame are none; fetch it again, or split what was joined"
        )


def _after_junk(view: View, parse: ParseFrame, at: int) -> int | None:
    if view.at(at, 3) == b"TAG" and view.size - at <= 128:
        return None
    # What comes after a tag may be other junk, but the tag itself is never searched.
    begin = at + max(_tag_bytes(view, at), 1)
    return find_frame(view, parse, begin, begin + _MAX_JUNK_BYTES)


def id3_bytes(view: View, at: int) -> int:
    """Size in bytes of the ID3v2 tag at an offset; 0 where there is none."""
    head = view.at(at, 10)
    if len(head) < 10 or head[:3] != b"ID3" or head[3] == 0xFF or any(byte & 0x80 for byte in head[6:]):
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _tag_bytes(view: View, at: int) -> int:
    """Size in bytes of the ID3v2 or APE tag that begins at an offset; 0 where there is none, or its end alone."""
    head = view.at(at, 32)
    if head[:8] != b"APETAGEX" or len(head) < 32:
        return id3_bytes(view, at)
    size, _, flags = struct.unpack("<III", head[12:24])
    return 32 + size if flags & _APE_HEADER else 0


class _Xing(NamedTuple):
    """Facts that an encoder wrote into a frame before the sound.

    Attributes:
        frames: how many follow, or None where it does not say.
        padding: samples at both ends that the encoder added.
    """

    frames: int | None
    padding: int


def _side_bytes(frame: Frame) -> int:
    version, _, _, channels = frame.kind
    return (32 if channels == 2 else 17) if version == 3 else (17 if channels == 2 else 9)


def _xing(head: bytes) -> _Xing | None:
    """Read a Xing, Info or VBRI header; None where the frame has none."""
    frame = parse_mpeg(head)
    if frame is None:
        return None
    side = _side_bytes(frame)
    # A checksum of two bytes comes before it, or not.
    for at in (4 + side, 6 + side):
        if head[at : at + 4] in (b"Xing", b"Info") and len(head) >= at + 12:
            flags, frames = struct.unpack(">II", head[at + 4 : at + 12])
            # The encoder's own part follows only where all the optional parts are there.
            ends = head[at + 141 : at + 144] if flags & 15 == 15 else b""
            packed = int.from_bytes(ends, "big") if len(ends) == 3 else 0
            return _Xing(frames if flags & 1 and frames else None, (packed >> 12) + (packed & 0xFFF))
    if head[36:40] == b"VBRI" and len(head) >= 54:
        return _Xing(struct.unpack(">I", head[50:54])[0] or None, 0)
    return None


_NO_TAG = _Xing(None, 0)
