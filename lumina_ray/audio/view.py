"""Nameless files: stretches of an open file, one after another, as one file of their own.

Decoders get nothing else. libsndfile takes files without a known beginning for what their name ends in, and FFmpeg
weighs the name against the content, so that a name would decide what is heard.
"""

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO

_CACHE_BYTES = 1 << 18


class View(io.RawIOBase):
    """A file that is made of stretches of another one and of bytes in between. It can be read and searched, no more.

    Args:
        base: the file. Views of one file must not be read by several threads.
        pieces: `(begin, end)` in the file, or bytes that stand for themselves.
    """

    def __init__(self, base: BinaryIO, pieces: Sequence[tuple[int, int] | bytes]) -> None:
        super().__init__()
        self._base = base
        self._pieces = pieces
        sizes = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._begins = [0, *accumulate(sizes)]
        self.size = self._begins.pop()
        self._at = 0
        self._cache, self._cached_at = b"", 0

    def cut(self, pieces: Sequence[tuple[int, int] | bytes]) -> "View":
        """Make a view of parts of this one."""
        return View(self, pieces)  # type: ignore[arg-type]

    def buffered(self) -> io.BufferedReader:
        """Open the same bytes for a decoder, which may close what it gets."""
        return io.BufferedReader(View(self._base, self._pieces), 1 << 16)

    def at(self, offset: int, n: int) -> bytes:
        """Up to `n` bytes from `offset` on; fewer where the file ends, and none outside of it."""
        if offset < 0 or offset >= self.size or n <= 0:
            return b""
        begin = offset - self._cached_at
        if begin < 0 or begin + n > len(self._cache):
            self._cached_at, begin = offset, 0
            self._cache = self._read_at(offset, max(n, _CACHE_BYTES))
        return self._cache[begin : begin + n]

    def _read_at(self, offset: int, n: int) -> bytes:
        self._at = offset
        found = bytearray()
        while len(found) < n and (more := self.read(n - len(found))):
            found += more
        return bytes(found)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset += self.size
        self._at = max(offset, 0)
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        if self._at >= self.size:
            return 0
        number = bisect_right(self._begins, self._at) - 1
        piece, skipped = self._pieces[number], self._at - self._begins[number]
        if isinstance(piece, bytes):
            found = piece[skipped : skipped + len(buffer)]
        else:
            begin = piece[0] + skipped
            self._base.seek(begin)
            found = self._base.read(min(len(buffer), piece[1] - begin)) or b""
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)
