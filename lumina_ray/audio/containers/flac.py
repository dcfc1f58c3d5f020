"""FLAC: how many samples it has, and their MD5, are in its first block."""

import re

from lumina_ray.audio.containers.part import Part, StreamInfo, joined, require_rate, truncated
from lumina_ray.audio.view import View

_MAX_BLOCKS = 1000
_COMMENTS = 4
_WINDOW_BYTES = 1 << 18
_BEGINS = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_MASK = re.compile(rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9A-Fa-f]{1,8})", re.IGNORECASE)


def flac(view: View, label: str) -> list[Part]:
    """Examine a FLAC file."""
    info = view.at(8, 34)
    if len(info) < 34 or view.at(4, 1)[0] & 0x7F:
        raise truncated(label, "it begins as a FLAC file", "its first block is incomplete")
    packed = int.from_bytes(info[10:18], "big")
    rate_hz, total = packed >> 44, packed & (1 << 36) - 1
    md5 = info[18:]
    require_rate(rate_hz, label)
    stream = StreamInfo(
        rate_hz=rate_hz,
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        total=total,
        md5=md5 if any(md5) else None,
        channel_mask=_mask(view),
    )
    if _has_second(view):
        raise joined(label, "FLAC")
    duration_s = total / rate_hz if total else None
    return [Part(view, sndfile=True, duration_s=duration_s, flac=stream)]


def _has_second(view: View) -> bool:
    """Whether another file begins somewhere: what a FLAC file says of its length is not in bytes."""
    at = 8
    while window := view.at(at, _WINDOW_BYTES):
        if _BEGINS.search(window):
            return True
        at += max(len(window) - 7, 7)
    return False


def _mask(view: View) -> int | None:
    at = 4
    for _ in range(_MAX_BLOCKS):
        head = view.at(at, 4)
        if len(head) < 4:
            break
        n_bytes = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == _COMMENTS and (found := _MASK.search(view.at(at + 4, min(n_bytes, 1 << 16)))):
            return int(found[1], 16) or None
        if head[0] & 0x80:
            break
        at += 4 + n_bytes
    return None
