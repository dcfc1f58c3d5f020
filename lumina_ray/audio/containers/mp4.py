"""MP4, M4A and QuickTime: boxes that say how long they are, and a table of where each sample lies."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lumina_ray.audio.containers.part import Part, joined, require_extent, truncated, undecodable
from lumina_ray.audio.view import View

_MAX_BOXES = 1_000_000
_MAX_TABLE_BYTES = 64 << 20


class _Box(NamedTuple):
    name: bytes
    begin: int
    end: int


def mp4(view: View, label: str) -> list[Part]:
    """Examine an MP4 or QuickTime file.

    Raises:
        AudioError: a box or a sample lies beyond the file's end, or the table of contents is missing
            ("audio.truncated").
    """
    table, fragment_open, fragmented = None, False, False
    at_end = 0
    for box in _boxes(view, 0, view.size):
        require_extent(view, label, f"box {box.name.decode('latin-1')!r}", box.end)
        if box.name == b"moov":
            if table:
                raise joined(label, "MP4")
            table = box
        elif box.name == b"moof":
            fragment_open = fragmented = True
        elif box.name == b"mdat":
            fragment_open = False
        at_end = box.end
    if table is None:
        raise truncated(label, "it begins as an MP4 file", "its table of contents (moov) is missing")
    if fragment_open or (not fragmented and 0 < view.size - at_end < 8):
        raise truncated(label, "it goes on after its last box", f"the file has {view.size} bytes")
    for track in [box for box in _boxes(view, table.begin, table.end) if box.name == b"trak"]:
        if (media := _inner(view, track, b"mdia")) and _handler(view, media) == b"soun":
            end = _samples_end(view, media, label)
            require_extent(view, label, "last sample", end)
    # Without fragments, a table says where each sample lies, and edits may leave a part of the time empty.
    return [Part(view, stated=True, timed=fragmented)]


def _boxes(view: View, begin: int, end: int) -> Iterator[_Box]:
    at = begin
    for _ in range(_MAX_BOXES):
        head = view.at(at, min(16, end - at))
        if len(head) < 8:
            return
        size, body = int.from_bytes(head[:4], "big"), at + 8
        if size == 1 and len(head) == 16:
            size, body = int.from_bytes(head[8:], "big"), at + 16
        # A size of 0 means: to the end.
        box = _Box(head[4:8], body, at + size if size else end)
        if box.end < body:
            return
        yield box
        at = box.end


def _inner(view: View, box: _Box, *names: bytes) -> _Box | None:
    for name in names:
        found = next((inner for inner in _boxes(view, box.begin, min(box.end, view.size)) if inner.name == name), None)
        if found is None:
            return None
        box = found
    return box


def _handler(view: View, media: _Box) -> bytes:
    handler = _inner(view, media, b"hdlr")
    return view.at(handler.begin + 8, 4) if handler else b""


def _samples_end(view: View, media: _Box, label: str) -> int:
    """Where the last of a track's samples ends; 0 where the table holds none, as in files of fragments."""
    table = _inner(view, media, b"minf", b"stbl")
    if table is None:
        return 0
    boxes = {box.name: box for box in _boxes(view, table.begin, table.end)}
    if not {b"stsz", b"stsc"} <= boxes.keys() or not {b"stco", b"co64"} & boxes.keys():
        return 0
    wide = b"co64" in boxes
    offsets = _entries(view, boxes[b"co64" if wide else b"stco"], 8 if wide else 4, ">u8" if wide else ">u4")
    runs = _entries(view, boxes[b"stsc"], 12, ">u4").reshape(-1, 3).astype(np.int64)
    size, count = (int.from_bytes(view.at(boxes[b"stsz"].begin + at, 4), "big") for at in (4, 8))
    if not len(offsets) or not len(runs) or not count:
        return 0
    firsts = np.concatenate([runs[:, 0], [len(offsets) + 1]])
    chunks = np.diff(firsts)
    if (chunks < 0).any() or firsts[0] != 1:
        raise undecodable(label, "its table of samples contradicts itself; re-encode it, for example as FLAC")
    samples = np.repeat(runs[:, 1], chunks)
    ends = np.minimum(np.cumsum(samples), count)
    if size:
        n_bytes = np.diff(ends, prepend=0) * size
        # Sound without compression has samples of one byte there: the true size is in its description.
        return int(offsets.max()) if size == 1 else int((offsets + n_bytes.astype(np.uint64)).max())
    sizes = _entries(view, boxes[b"stsz"], 4, ">u4", head=12)
    if len(sizes) < count:
        raise truncated(label, f"its table has {count} samples", f"there are {len(sizes)}")
    sums = np.concatenate([[0], np.cumsum(sizes, dtype=np.uint64)])
    n_bytes = np.diff(sums[ends], prepend=np.uint64(0))
    used = n_bytes > 0
    return int((offsets.astype(np.uint64) + n_bytes)[used].max()) if used.any() else 0


def _entries(view: View, box: _Box, width: int, kind: str, head: int = 8) -> np.ndarray:
    """A table's entries, as many as are there and no more than are read."""
    body = view.at(box.begin + head, min(min(box.end, view.size) - box.begin - head, _MAX_TABLE_BYTES))
    count = int.from_bytes(view.at(box.begin + head - 4, 4), "big")
    whole = min(count * width, len(body) // width * width)
    return np.frombuffer(body[:whole], dtype=kind)
