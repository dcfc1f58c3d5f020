"""Clips on the disk, in buckets by the hash of their audio: each report of one audio is found beside the others."""

import marshal
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from lumina_ray.vocabulary import Channel

_BUCKETS = 64


class SpooledShare(NamedTuple):
    """A share of a clip; `recording` is a number that stands for its songs."""

    recording: int
    share: float
    own_sd: float | None
    drawn: tuple[float, ...] | None


class SpooledPayable(NamedTuple):
    """What a clip has of payable influence, by channel; of each part a number that stands for a name."""

    of_output: bool
    tested: bool
    channels: tuple[tuple[Channel, tuple[tuple[int, float], ...]], ...]


class SpooledClip(NamedTuple):
    """What is kept of a report until all are read."""

    audio_sha256: bytes
    report_sha256: bytes
    snapshot: tuple[str, str, str]
    environment: str
    membership: bool
    warnings: tuple[str, ...]
    payable: SpooledPayable | None
    channels: tuple[tuple[Channel, tuple[SpooledShare, ...]], ...]


class Spool:
    """Takes clips in any order, and gives them back in the order of their audio's hashes, a bucket at a time.

    Of a million clips, it holds one in 64 in memory, and the others in a temporary folder.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lumina-statement-")
        self._files = [Path(self._folder.name, f"{i:02d}").open("w+b") for i in range(_BUCKETS)]  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        self._folder.cleanup()

    def add(self, clip: SpooledClip) -> None:
        # Only this process reads it again, and nobody else can write to the folder.
        shares = tuple((channel, tuple(map(tuple, given))) for channel, given in clip.channels)
        of = clip.payable
        payable = None if of is None else (of.of_output, of.tested, of.channels)
        marshal.dump((*clip[:-2], payable, shares), self._files[clip.audio_sha256[0] * _BUCKETS // 256])

    def by_audio(self) -> Iterator[list[SpooledClip]]:
        """All clips of each audio, those of one in the order of their reports' hashes."""
        for file in self._files:
            file.seek(0)
            clips: list[SpooledClip] = []
            while True:
                try:
                    audio, report, *facts, payable, channels = marshal.load(file)
                except EOFError:
                    break
                shares = tuple((channel, tuple(SpooledShare(*share) for share in given)) for channel, given in channels)
                snapshot, environment, membership, warnings = facts
                spooled = payable and SpooledPayable(*payable)
                clips.append(SpooledClip(audio, report, snapshot, environment, membership, warnings, spooled, shares))
            clips.sort(key=lambda clip: clip[:2])
            for _, same in groupby(clips, key=lambda clip: clip.audio_sha256):
                yield list(same)
