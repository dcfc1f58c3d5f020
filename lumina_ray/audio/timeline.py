"""Holes in time: packets say when they are played, and what was lost leaves a jump between two of them."""

from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.ndimage import minimum_filter1d

from lumina_ray.vocabulary import MAX_DURATION_S

# Clocks of containers are coarse, and muxers round.
_LEAST_HOLE_S = 0.1
# Of the longest frame: a lost one is a hole, and what a decoder holds back until the next is less.
_LEAST_HOLE_FRAMES = 0.9
_WINDOW_S = 2.0


class Hole(NamedTuple):
    """A hole: after how much sound it comes, and how long it is; both in seconds."""

    at_s: float
    length_s: float


@dataclass
class Timeline:
    """When the frames of a stream are played, against the sound before them.

    How far a frame's time is ahead of the sound before it changes little in a whole file. It starts anywhere, drifts
    where two clocks differ, and rises for a moment where a recorder writes down when packets arrived, until the rest
    has arrived. Where sound is missing, it rises and never comes back, so that its least values of two seconds before
    and after are compared. It falls where a clock was set back, which is no hole. FFmpeg takes that for a clock that
    began anew where it could, and adds a day: what jumps further than any file may last is no hole either.
    """

    # No lists: an hour may have a million frames.
    _ahead_s: "array[float]" = field(default_factory=lambda: array("d"))
    _elapsed_s: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, time_s: float | None, elapsed_s: float) -> None:
        """Add a frame.

        Args:
            time_s: when it is played; None where the file does not say it.
            elapsed_s: length of the sound before it.
        """
        if time_s is not None:
            self._ahead_s.append(time_s - elapsed_s)
            self._elapsed_s.append(elapsed_s)

    def hole(self) -> Hole | None:
        """The first hole; None where there is none."""
        if len(self._ahead_s) < 2:
            return None
        lengths = np.diff(self._elapsed_s)
        n = max(round(_WINDOW_S / max(float(np.median(lengths)), 1e-3)), 1)
        ahead = np.array(self._ahead_s)
        # The first has those before each frame, the second each frame and those after it.
        before = minimum_filter1d(ahead, n, origin=(n - 1) // 2, mode="nearest")[:-1]
        after = minimum_filter1d(ahead, n, origin=-(n // 2), mode="nearest")[1:]
        rises = after - before
        least = max(_LEAST_HOLE_S, _LEAST_HOLE_FRAMES * float(lengths.max()))
        holes = np.flatnonzero((rises > least) & (rises <= MAX_DURATION_S))
        if not len(holes):
            return None
        first = int(holes[0])
        return Hole(self._elapsed_s[first + 1], float(rises[first]))
