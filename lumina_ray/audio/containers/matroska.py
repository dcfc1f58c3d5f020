"""Matroska and WebM: elements that say how long they are, or that they do not know it."""

from typing import NamedTuple

from lumina_ray.audio.containers.part import Part, joined, require_extent, truncated, undecodable
from lumina_ray.audio.view import View

# Half of it are the shortest blocks of Opus in an hour.
_MAX_ELEMENTS = 3_000_000
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
# What a segment holds. A cluster of unknown length ends where one of them begins.
_TOP = {_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF}


class _Element(NamedTuple):
    name: int
    begin: int
    end: int | None


def matroska(view: View, label: str) -> list[Part]:
    """Examine a Matroska or WebM file.

    Raises:
        AudioError: an element ends beyond the file's end ("audio.truncated").
    """
    at, segments = 0, 0
    for _ in range(_MAX_ELEMENTS):
        element = _element(view, at)
        if element is None or element.name not in (_EBML, _SEGMENT):
            break
        if element.name == _SEGMENT:
            segments += 1
            if element.end is None:
                _examine_segment(view, element.begin, view.size, label)
                break
        assert element.end is not None or element.name == _EBML
        if element.end is None:
            raise undecodable(label, "its header has no length; re-encode it, for example as FLAC")
        require_extent(view, label, "segment" if element.name == _SEGMENT else "header", element.end)
        if element.name == _SEGMENT:
            _examine_segment(view, element.begin, element.end, label)
        at = element.end
    if not segments:
        raise truncated(label, "it begins as a Matroska file", "its segment is missing")
    if segments > 1:
        raise joined(label, "Matroska")
    return [Part(view, stated=True, timed=True)]


def _examine_segment(view: View, at: int, end: int, label: str) -> None:
    """Examine what a segment holds, and what its clusters hold: element must follow element up to its end.

    A segment that was written without its length ends with the file.
    """
    for _ in range(_MAX_ELEMENTS):
        element = _element(view, at) if at < end else None
        if element is None:
            if at < end:
                raise truncated(label, f"an element begins at byte {at}", f"{end - at} bytes there are none")
            return
        if element.name == _EBML:
            raise joined(label, "Matroska")
        if element.end is None and element.name != _CLUSTER:
            raise undecodable(label, f"an element of unknown length at byte {at}; re-encode it, for example as FLAC")
        if element.end is not None:
            require_extent(view, label, "cluster" if element.name in _TOP else "block", element.end)
        # What a cluster holds is looked at in the same way: FFmpeg goes past a hole in it without a word.
        at = element.begin if element.name == _CLUSTER or element.end is None else element.end
    raise undecodable(label, f"more than {_MAX_ELEMENTS} elements; re-encode it, for example as FLAC")


def _element(view: View, at: int) -> _Element | None:
    head = view.at(at, 12)
    name_bytes = 9 - head[0].bit_length() if head else 9
    if name_bytes > 4 or len(head) <= name_bytes:
        return None
    size_bytes = 9 - head[name_bytes].bit_length()
    begin = at + name_bytes + size_bytes
    if size_bytes > 8 or len(head) < name_bytes + size_bytes:
        return None
    size = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big") & (1 << 7 * size_bytes) - 1
    unknown = size == (1 << 7 * size_bytes) - 1
    return _Element(int.from_bytes(head[:name_bytes], "big"), begin, None if unknown else begin + size)
