"""Ogg: Vorbis, Opus, FLAC and Speex in pages with checksums.

Each stream ends with a page that says so. Streams that follow each other, as in recordings of radio, are decoded one
after another: libsndfile reads the first alone.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

from lumina_ray.audio.containers.frames import MAX_PARTS
from lumina_ray.audio.containers.part import TAGS, Part, only_zeros, truncated, undecodable
from lumina_ray.audio.view import View

_FIRST, _LAST = 2, 4
# What is longer behind the last page, and no tag, is another file.
_MAX_TAIL_BYTES = 1 << 12
_MAX_STREAMS = 64
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# Codecs by how their first packet begins, and whether libsndfile reads them.
_CODECS = {b"\x01vorbis": True, b"OpusHead": True, b"\x7fFLAC": True, b"fLaC": False, b"Speex   ": False}


# No page holds as much.
_LONGEST_PAGE_S = 60


class _Page(NamedTuple):
    n_bytes: int
    body_at: int
    flags: int
    position: int
    serial: int
    number: int


@dataclass
class _Stream:
    """One stream: its pages, and what its last page says."""

    codec: bytes | None
    head: bytes
    number: int
    pieces: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False
    position: int = -1
    first_position: int = -1

    @property
    def duration_s(self) -> float | None:
        if self.codec == b"\x01vorbis":
            rate_hz = int.from_bytes(self.head[12:16], "little")
        elif self.codec == b"OpusHead":
            rate_hz = 48_000
        elif self.codec == b"\x7fFLAC" and self.head[9:13] == b"fLaC":
            rate_hz = int.from_bytes(self.head[27:30], "big") >> 4
        else:
            return None
        skipped = int.from_bytes(self.head[10:12], "little") if self.codec == b"OpusHead" else 0
        if not rate_hz or self.position < 0:
            return None
        # Recordings of a radio station count from when the station began.
        begin = self.first_position if self.first_position > _LONGEST_PAGE_S * rate_hz else skipped
        return max(self.position - begin, 0) / rate_hz


def ogg(view: View, label: str) -> list[Part]:
    """Examine an Ogg file.

    Raises:
        AudioError: a page is missing or damaged, or a stream has no last page ("audio.truncated"); no audio in it.
    """
    links: list[dict[int, _Stream]] = []
    at, beginning = 0, False
    while at < view.size:
        page = _page(view, at)
        if page is None:
            whole = links and all(stream.ended for stream in links[-1].values())
            rest = view.at(at, min(view.size - at, 1 << 16))
            if whole and b"OggS" not in rest:
                if view.size - at > _MAX_TAIL_BYTES and not rest.startswith(TAGS) and not only_zeros(view, at):
                    raise undecodable(
                        label, f"{view.size - at} bytes behind its last page are none; split what was joined"
                    )
                # A tag of another format behind the last page.
                break
            raise truncated(label, "its pages promise more", f"the page at byte {at} is incomplete or damaged")
        if page.flags & _FIRST:
            if not beginning:
                links.append({})
                if len(links) > MAX_PARTS:
                    raise undecodable(label, f"more than {MAX_PARTS} streams; re-encode it, for example as FLAC")
            head = view.at(page.body_at, 64)
            codec = next((name for name in _CODECS if head.startswith(name)), None)
            if len(links[-1]) > _MAX_STREAMS:
                raise undecodable(label, f"more than {_MAX_STREAMS} streams at once; re-encode it, for example as FLAC")
            links[-1][page.serial] = _Stream(codec, head, page.number - 1)
        beginning = bool(page.flags & _FIRST)
        stream = links[-1].get(page.serial) if links else None
        if stream is None:
            raise truncated(
                label,
                "each of its streams begins with a page that says so",
                f"the page at byte {at} is of none of them",
            )
        _add(stream, page, at, label)
        at += page.n_bytes
    parts = []
    for link in links:
        sounding = [stream for stream in link.values() if stream.codec]
        for stream in sounding:
            if not stream.ended:
                promised = "each of its streams ends with a page that says so"
                at_s = f"the last page is at {stream.duration_s:.1f} s" if stream.duration_s else "one has none"
                raise truncated(label, promised, at_s)
        if len(sounding) == 1:
            (stream,) = sounding
            sndfile = _CODECS[stream.codec or b""]
            parts.append(Part(view.cut(stream.pieces), sndfile=sndfile, duration_s=stream.duration_s))
        elif sounding:
            pieces = sorted(piece for stream in sounding for piece in stream.pieces)
            parts.append(Part(view.cut(pieces), duration_s=max(s.duration_s or 0 for s in sounding) or None))
    if not parts:
        raise undecodable(label, "holds no audio stream")
    return parts


def _add(stream: _Stream, page: _Page, at: int, label: str) -> None:
    if page.number != (stream.number + 1) & 0xFFFFFFFF:
        raise truncated(
            label, f"page {(stream.number + 1) & 0xFFFFFFFF} comes next at byte {at}", f"page {page.number} is there"
        )
    stream.number = page.number
    if stream.pieces and stream.pieces[-1][1] == at:
        stream.pieces[-1] = stream.pieces[-1][0], at + page.n_bytes
    else:
        stream.pieces.append((at, at + page.n_bytes))
    if page.position != -1:
        if stream.first_position < 0 < page.position:
            stream.first_position = page.position
        stream.position = page.position
    stream.ended = stream.ended or bool(page.flags & _LAST)


def _page(view: View, at: int) -> _Page | None:
    """The page at an offset; None where there is none, or a damaged one."""
    head = view.at(at, 27)
    if len(head) < 27 or head[:5] != b"OggS\0":
        return None
    flags, position, serial, number, checksum, n_segments = struct.unpack("<BqIIIB", head[5:])
    segments = view.at(at + 27, n_segments)
    n_bytes = 27 + n_segments + sum(segments)
    whole = view.at(at, n_bytes)
    if len(segments) < n_segments or len(whole) < n_bytes:
        return None
    if _checksum(whole[:22] + bytes(4) + whole[26:]) != checksum:
        return None
    return _Page(n_bytes, at + 27 + n_segments, flags, position, serial, number)


def _checksum(page: bytes) -> int:
    """CRC-32 as Ogg has it: zlib's polynomial, but bits in the other order, and nothing inverted."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
