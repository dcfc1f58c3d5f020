"""Containers of chunks that say how long they are: WAV, RF64, W64, AIFF, AU and CAF.

Writers that cannot go back, as into a pipe, leave a length of zero, or the largest one, where they do not know it. Such
a file is whole, and its sound goes to the end. libsndfile does not read all of these, so it gets the true length.
"""

import math
import struct
from typing import NamedTuple

import numpy as np

from lumina_ray.audio.containers.part import (
    TAGS,
    Part,
    joined,
    only_zeros,
    require_alone,
    require_extent,
    require_rate,
    truncated,
    undecodable,
)
from lumina_ray.audio.view import View
from lumina_ray.errors import AudioError

# Writers count their header in, or a last sample that is not whole.
_SLACK_BYTES = 64
_MAX_CHUNKS = 10_000
_MAX_TABLE_BYTES = 64 << 20
# Codecs of WAV without compression over time: integers, floats, A-law, µ-law, and what an extension says.
_PLAIN = (1, 3, 6, 7, 0xFFFE)


def wav(view: View, label: str) -> list[Part]:
    """Examine a RIFF, RIFX, RF64 or BW64 file."""
    order = ">" if view.at(0, 4) == b"RIFX" else "<"
    at, large, bytes_per_s = 12, None, 0
    for _ in range(_MAX_CHUNKS):
        head = view.at(at, 8)
        if len(head) < 8:
            break
        name, (size,) = head[:4], struct.unpack(order + "I", head[4:])
        if name == b"ds64" and len(body := view.at(at + 8, 16)) == 16:
            large = struct.unpack("<QQ", body)[1]
        elif name == b"fmt ":
            bytes_per_s = _bytes_per_s(view.at(at + 8, 16), order, label)
        elif name == b"data":
            begin = at + 8
            available = view.size - begin
            # A length in ds64 that nobody wrote is unknown, too.
            known = large if size == 0xFFFFFFFF and large and large < 1 << 62 else size
            if size == 0 and _only_chunks(view, begin, order):
                return [Part(view, sndfile=True, duration_s=0.0)]
            # RF64 files that were written into a pipe have no length in ds64 either.
            if known == 0 or (size == known and _is_unknown(size)):
                fixed = struct.pack(order + "I", min(available, 0xFFFFFFFE))
                # The lengths of RF64 lie elsewhere, and are as unknown: as RIFF, the sound has the length given here.
                form = b"RIFX" if order == ">" else b"RIFF"
                streamed = view.cut([form, (4, at + 4), fixed, (begin, view.size)])
                return [Part(streamed, sndfile=True, duration_s=_seconds(available, bytes_per_s))]
            require_extent(view, label, "sound", begin + known, _SLACK_BYTES)
            _refuse_more(view, label, begin + known, order, _slack(bytes_per_s))
            return [Part(view, sndfile=True, duration_s=_seconds(min(known, available), bytes_per_s))]
        at += 8 + size + size % 2
    raise _without_sound(view, label, at)


def _refuse_more(view: View, label: str, at: int, order: str, slack: float) -> None:
    """Look for more sound behind the sound, and behind the chunks of tags that may follow it.

    A second file may be there, a second chunk of sound, or sound that the header does not count: a recorder that dies
    leaves it so.
    """
    # Some writers leave out the byte that makes the length even.
    at += at % 2 and not _is_name(view.at(at, 4))
    for _ in range(_MAX_CHUNKS):
        head = view.at(at, 12)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:] == b"WAVE":
            raise joined(label, "WAV")
        if len(head) < 8 or head.startswith(TAGS):
            return
        if not _is_name(head[:4]) or head[:4] == b"data":
            break
        (size,) = struct.unpack(order + "I", head[4:8])
        at += 8 + size + size % 2
    _refuse_uncounted(view, label, at, slack)


def _refuse_uncounted(view: View, label: str, at: int, slack: float) -> None:
    """Check that no more than tags, zeros or a few bytes lie behind all that a header counts."""
    if (rest := view.size - at) > slack and not view.at(at, 16).startswith(TAGS) and not only_zeros(view, at):
        raise undecodable(
            label, f"its header counts its sound up to byte {at}, and {rest} bytes more are there; export it again"
        )


def _slack(bytes_per_s: float) -> float:
    """So many bytes may lie uncounted behind the sound: a quarter of a second of it."""
    return max(bytes_per_s / 4, _SLACK_BYTES)


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _only_chunks(view: View, at: int, order: str) -> bool:
    """Whether chunks of tags, at least one, fill the file to its end: then sound of length 0 is no sound."""
    begin = at
    for _ in range(_MAX_CHUNKS):
        head = view.at(at, 8)
        if len(head) < 8 or not _is_name(head[:4]):
            break
        (size,) = struct.unpack(order + "I", head[4:])
        at += 8 + size + size % 2
    return at > begin and 0 <= at - view.size <= 1


def _is_unknown(size: int) -> bool:
    """Whether a chunk's length is one that stands for "unknown": none, or (nearly) the largest, signed or unsigned."""
    return size == 0 or 0x7FFFF000 <= size <= 0x80000000 or size >= 0xFFFFF000


def _bytes_per_s(body: bytes, order: str, label: str) -> int:
    """Bytes in a second by a WAV header; 0 for compressed sound. The number that it has itself is often wrong."""
    if len(body) < 16:
        return 0
    codec, channels, rate_hz, _, _, bits = struct.unpack(order + "HHIIHH", body)
    require_rate(rate_hz, label)
    return channels * ((bits + 7) // 8) * rate_hz if codec in _PLAIN else 0


def _seconds(n_bytes: int, bytes_per_s: float) -> float | None:
    return n_bytes / bytes_per_s if bytes_per_s else None


def _without_sound(view: View, label: str, end: int) -> AudioError:
    if end > view.size:
        return truncated(label, f"its header goes on to byte {end}", f"the file has {view.size} bytes")
    return undecodable(label, "its chunks hold no sound; export it again")


_W64_FMT = bytes.fromhex("666d7420f3acd3118cd100c04f8edb8a")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
# How the names of chunks end, which begin with those of WAV.
_W64_KINDS = (_W64_FMT[4:], bytes.fromhex("2f91cf11a5d628db04c10000"))


def w64(view: View, label: str) -> list[Part]:
    """Examine a Sony Wave64 file."""
    at, bytes_per_s = 40, 0
    for _ in range(_MAX_CHUNKS):
        head = view.at(at, 24)
        if len(head) < 24:
            break
        name, (size,) = head[:16], struct.unpack("<Q", head[16:])
        if name == _W64_FMT:
            bytes_per_s = _bytes_per_s(view.at(at + 24, 16), "<", label)
        elif name == _W64_DATA:
            # FFmpeg leaves the length of the header alone, or -1, where it cannot go back.
            if size in (0, 24) or size >= 1 << 62:
                return [_w64_part(view, at, view.size, bytes_per_s)]
            require_extent(view, label, "sound", at + size, _SLACK_BYTES)
            behind = at + (size + 7) // 8 * 8
            require_alone(view, label, behind, view.at(0, 16), "Wave64")
            while (head := view.at(behind, 24))[4:16] in _W64_KINDS and head[:16] != _W64_DATA:
                behind += max((int.from_bytes(head[16:], "little") + 7) // 8 * 8, 24)
            _refuse_uncounted(view, label, behind, _slack(bytes_per_s))
            return [_w64_part(view, at, min(at + size, view.size), bytes_per_s)]
        if size < 24:
            raise undecodable(label, f"a chunk of {size} bytes at byte {at}, shorter than its header; export it again")
        at += (size + 7) // 8 * 8
    raise _without_sound(view, label, at)


def _w64_part(view: View, at: int, end: int, bytes_per_s: int) -> Part:
    """Make the part whose sound begins with a chunk at `at`: libsndfile takes all that lies behind for sound."""
    size, n_bytes = struct.pack("<Q", end), struct.pack("<Q", end - at)
    sound = view.cut([(0, 16), size, (24, at + 16), n_bytes, (at + 24, end)])
    return Part(sound, sndfile=True, duration_s=_seconds(end - at - 24, bytes_per_s))


def aiff(view: View, label: str) -> list[Part]:
    """Examine an AIFF or AIFF-C file. Its sound may come before the chunk that describes it."""
    at, common_at, sound = 12, None, None
    for _ in range(_MAX_CHUNKS):
        head = view.at(at, 8)
        if len(head) < 8:
            break
        name, (size,) = head[:4], struct.unpack(">I", head[4:])
        if not _is_name(name):
            break
        if name == b"COMM":
            common_at = at + 8
        elif name == b"FORM" and view.at(at + 8, 4) in (b"AIFF", b"AIFC"):
            raise joined(label, "AIFF")
        elif name == b"SSND" and sound is None:
            sound = (at, size)
            if _is_unknown(size):
                at = view.size
                break
            require_extent(view, label, "sound", at + 8 + size, _SLACK_BYTES)
        at += 8 + size
        # Some writers leave out the byte that makes the length even.
        at += at % 2 and not _is_name(view.at(at, 4))
    if common_at is None or sound is None:
        raise _without_sound(view, label, at)
    common = view.at(common_at, 18)
    if len(common) < 18:
        raise _without_sound(view, label, view.size + 1)
    channels, frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", common)
    rate_hz = _extended(exponent, mantissa)
    require_rate(rate_hz, label)
    plain = view.at(8, 4) == b"AIFF" or view.at(common_at + 18, 4) in (b"NONE", b"sowt", b"twos", b"raw ")
    frame_bytes = channels * ((bits + 7) // 8)
    begin, size = sound
    if _is_unknown(size) and plain and frame_bytes:
        available = view.size - begin - 16
        frames = max(available, 0) // frame_bytes
        fixed = struct.pack(">I", min(available + 8, 0xFFFFFFFE))
        # A writer that goes on without lengths describes the sound before it.
        if common_at < begin:
            count = struct.pack(">I", frames)
            view = view.cut([(0, common_at + 2), count, (common_at + 6, begin + 4), fixed, (begin + 8, view.size)])
    elif plain and frames * frame_bytes - (size - 8) > max(_SLACK_BYTES, frame_bytes):
        require_extent(view, label, "sound", begin + 16 + frames * frame_bytes, _SLACK_BYTES)
        raise undecodable(label, "its chunks contradict each other on how long it is; export it again")
    else:
        _refuse_uncounted(view, label, at, _slack(frame_bytes * rate_hz if plain else 0))
    return [Part(view, sndfile=True, duration_s=frames / rate_hz if plain else None)]


def _extended(exponent: int, mantissa: int) -> float:
    """An 80-bit float, as AIFF writes its sample rate."""
    try:
        return math.ldexp(mantissa, (exponent & 0x7FFF) - 16383 - 63)
    except OverflowError:
        return math.inf


def au(view: View, label: str) -> list[Part]:
    """Examine a Sun or NeXT audio file, of either byte order."""
    order = ">" if view.at(0, 4) == b".snd" else "<"
    head = view.at(4, 20)
    if len(head) < 20:
        raise _without_sound(view, label, 24)
    begin, size, encoding, rate_hz, channels = struct.unpack(order + "5I", head)
    require_rate(rate_hz, label)
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0)
    bytes_per_s = rate_hz * channels * width
    available = view.size - begin
    if _is_unknown(size):
        size = max(available, 0)
        fixed = struct.pack(order + "I", min(size, 0xFFFFFFFE))
        view = view.cut([(0, 8), fixed, (12, view.size)])
    else:
        require_extent(view, label, "sound", begin + size, _SLACK_BYTES)
        require_alone(view, label, begin + size, view.at(0, 4), "AU")
        _refuse_uncounted(view, label, begin + size, _slack(bytes_per_s))
    return [Part(view, sndfile=True, duration_s=_seconds(size, bytes_per_s))]


def caf(view: View, label: str) -> list[Part]:
    """Examine a Core Audio file.

    Raises:
        AudioError: the file ends before a chunk, or before the last of the packets that its table has
            ("audio.truncated").
    """
    at, description, packets, sound = 8, None, None, None
    for _ in range(_MAX_CHUNKS):
        head = view.at(at, 12)
        if len(head) < 12 or not _is_name(head[:4]):
            break
        name, (size,) = head[:4], struct.unpack(">q", head[4:])
        if name == b"desc" and len(body := view.at(at + 12, 32)) == 32:
            description = _CafDescription(*struct.unpack(">d8xII", body[:24]))
            require_rate(description.rate_hz, label)
        elif name == b"pakt" and size >= 24:
            if size > _MAX_TABLE_BYTES:
                raise undecodable(label, f"a table of packets of {size} bytes; export it again")
            packets = _Packets(at + 36, size - 24, *struct.unpack(">qq", view.at(at + 12, 16).ljust(16, b"\0")))
        elif name == b"data" and sound is None:
            sound = at + 12, view.size if size == -1 else at + 12 + size
            if size == -1:
                at = view.size
                break
            require_extent(view, label, "sound", sound[1], _SLACK_BYTES)
        elif name == b"caff":
            raise joined(label, "CAF")
        if size < 0:
            raise undecodable(label, f"a chunk of {size} bytes at byte {at}; export it again")
        at += 12 + size
    if sound is None or description is None:
        raise _without_sound(view, label, at)
    # What comes after the sound may be the table of its packets, without which it cannot be read.
    require_extent(view, label, "last chunk", at)
    begin, end = sound
    _refuse_uncounted(view, label, at, _slack(description.bytes_per_s))
    if end == view.size:
        view = view.cut([(0, begin - 8), struct.pack(">q", end - begin), (begin, view.size)])
    # Its number of edits comes first.
    duration_s = _seconds(end - begin - 4, description.bytes_per_s)
    if packets is None or packets.frames <= 0:
        return [Part(view, sndfile=True, duration_s=duration_s)]
    if not description.packet_bytes:
        n_bytes = _packets_bytes(view, packets, sized=not description.packet_frames)
        if begin + 4 + n_bytes - end > _SLACK_BYTES:
            raise truncated(
                label,
                f"its table has {packets.number} packets of {n_bytes} bytes",
                f"its sound has {end - begin - 4} bytes",
            )
    return [Part(view, sndfile=True, duration_s=packets.frames / description.rate_hz, stated=True)]


class _CafDescription(NamedTuple):
    """Facts that a Core Audio file states of its sound; a 0 is a number that varies from packet to packet."""

    rate_hz: float
    packet_bytes: int
    packet_frames: int

    @property
    def bytes_per_s(self) -> float:
        return self.rate_hz / self.packet_frames * self.packet_bytes if self.packet_frames else 0.0


class _Packets(NamedTuple):
    """The table of a Core Audio file's packets: where it lies, and what it promises."""

    begin: int
    n_bytes: int
    number: int
    frames: int


def _packets_bytes(view: View, packets: _Packets, sized: bool) -> int:
    """Add up the bytes of all packets in a table.

    Args:
        sized: each entry has the packet's number of frames behind its bytes.
    """
    body = np.frombuffer(view.at(packets.begin, packets.n_bytes), np.uint8)
    # Seven bits of a number in each byte, the highest first; all but its last byte have the eighth bit.
    ends = np.flatnonzero(body < 0x80)[: max(packets.number, 0) * (2 if sized else 1)]
    lengths = np.diff(ends, prepend=-1)
    values = np.zeros(len(ends), np.int64)
    for place in range(min(int(lengths.max(initial=0)), 5)):
        has = lengths > place
        values[has] += (body[ends[has] - place] & 0x7F).astype(np.int64) << 7 * place
    return int(values[:: 2 if sized else 1].sum())
