"""FLV: tags that say how long they are and when they are played, after one that states the whole length."""

import math
import struct

from lumina_ray.audio.containers.part import Part, joined, require_extent, truncated
from lumina_ray.audio.view import View

_SCRIPT = 18
# Sound, pictures, and scripts of two versions.
_KINDS = (8, 9, 15, _SCRIPT)
_DURATION = b"\x00\x08duration\x00"
# The last tag's time is where it begins, and video may go on after the sound.
_SLACK_S = 1.0


def flv(view: View, label: str) -> list[Part]:
    """Examine an FLV file."""
    at = int.from_bytes(view.at(5, 4), "big") + 4
    stated_s, reached_s = 0.0, 0.0
    while len(head := view.at(at, 11)) == 11:
        if head[:3] == b"FLV":
            raise joined(label, "FLV")
        if head[0] & 31 not in _KINDS:
            raise truncated(label, f"a tag begins at byte {at}", f"{view.size - at} bytes there are none")
        size = int.from_bytes(head[1:4], "big")
        require_extent(view, label, "tag", at + 11 + size)
        reached_s = max(reached_s, (int.from_bytes(head[4:7], "big") | head[7] << 24) / 1000)
        if head[0] & 31 == _SCRIPT and not stated_s:
            stated_s = _stated_s(view.at(at + 11, min(size, 1 << 16)))
        at += 15 + size
    if head:
        raise truncated(label, f"a tag begins at byte {at}", f"the file has {view.size} bytes")
    if reached_s < stated_s - _SLACK_S:
        raise truncated(label, f"its header promises {stated_s:.1f} s", f"there are {reached_s:.1f} s")
    return [Part(view, duration_s=stated_s or None, stated=stated_s > 0, timed=True)]


def _stated_s(script: bytes) -> float:
    at = script.find(_DURATION)
    body = script[at + len(_DURATION) : at + len(_DURATION) + 8] if at >= 0 else b""
    seconds = struct.unpack(">d", body)[0] if len(body) == 8 else 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
