"""ASF, the container of WMA: its header says how many packets follow, and how large each is."""

import struct

from lumina_ray.audio.containers.part import Part, require_alone, require_extent, truncated, undecodable
from lumina_ray.audio.view import View

_MAX_OBJECTS = 1000
_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_BROADCAST = 1


def asf(view: View, label: str) -> list[Part]:
    """Examine an ASF file. A recorded broadcast promises nothing."""
    head = view.at(0, 30)
    if len(head) < 30:
        raise truncated(label, "it begins as an ASF file", f"the file has {view.size} bytes")
    end = struct.unpack("<Q", head[16:24])[0]
    require_extent(view, label, "header", end)
    packets = packet_bytes = 0
    at, broadcast = 30, True
    for _ in range(_MAX_OBJECTS):
        if at + 24 > end:
            break
        name, (size,) = view.at(at, 16), struct.unpack("<Q", view.at(at + 16, 8))
        if name == _PROPERTIES and len(body := view.at(at + 24, 80)) == 80:
            (packets,) = struct.unpack("<Q", body[32:40])
            flags, packet_bytes = struct.unpack("<II", body[64:72])
            broadcast = bool(flags & _BROADCAST)
        if size < 24:
            raise undecodable(label, f"an object of {size} bytes at byte {at}; re-encode it, for example as FLAC")
        at += size
    data = view.at(end, 50)
    if len(data) < 50 or data[:16] != _DATA:
        raise truncated(label, f"its header ends at byte {end}", "its sound does not begin there")
    if not broadcast:
        data_end = end + struct.unpack("<Q", data[16:24])[0]
        require_extent(view, label, "sound", data_end)
        require_alone(view, label, data_end, head[:16], "ASF")
        require_extent(view, label, "last packet", end + 50 + packets * packet_bytes)
    return [Part(view, stated=not broadcast, timed=True)]
