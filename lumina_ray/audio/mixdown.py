"""Mixing channels down to one, the same for all files and without cancelling.

Mono stays as it is, and stereo is the mean of its channels. More channels are weighed as ITU-R BS.775 has it: front
1, centre and surround 0.7071, no low-frequency effects, then the mean of left and right. Where channels cancel each
other, a signal that does not is taken: for stereo the louder one of left, right and half their difference, for more
channels the loudest channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Layout = tuple[str, ...]
"""Speakers of a file's channels, as FFmpeg names them (`FL`, `FR`, `FC`, `LFE`, …)."""

_SPEAKERS = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # fmt: skip
# Where a file does not say which speakers its channels are for.
_USUAL: dict[int, Layout] = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
_HALF_POWER = 0.5**0.5
_WEIGHTS = (
    dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR", "DL", "DR", "BC", "TC", "TBC"), 0.5)
    | dict.fromkeys(("FC", "TFC"), _HALF_POWER)
    | dict.fromkeys(("BL", "BR", "SL", "SR", "SDL", "SDR", "TFL", "TFR", "TBL", "TBR", "TSL", "TSR"), _HALF_POWER / 2)
    | dict.fromkeys(("LFE", "LFE2"), 0.0)
)
# Channels that have nothing in common add up to the sum of their weighed energies. What has less than half of it (for
# stereo, 6 dB less than the mean of the channels' energies) has lost sound by cancelling.
_CANCELLED = 0.5
_ROUNDING = 1e-9


def layout_of_mask(mask: int | None, channels: int) -> Layout:
    """Speakers by a mask as in WAVEFORMATEXTENSIBLE; the usual ones where the mask does not fit."""
    speakers = tuple(name for bit, name in enumerate(_SPEAKERS) if (mask or 0) >> bit & 1)
    return speakers if len(speakers) == channels else usual_layout(channels)


def usual_layout(channels: int) -> Layout:
    """Speakers of so many channels where the file does not name them; no names where nothing is usual."""
    return _USUAL.get(channels, ("",) * channels)


@dataclass
class Mixdown:
    """Mixes a file's blocks down, and measures whether its channels cancel each other.

    A file is decoded once. If `cancels` says so afterwards, it is decoded again, and mixed with `instead()`.
    """

    weights: Mapping[Layout, np.ndarray] = field(default_factory=dict)
    peak: float = 0.0
    # Of the mix and of each channel: the sum of squares, the sum, and how many samples they are of.
    _sums: dict[Layout, np.ndarray] = field(default_factory=dict)

    def mix(self, block: np.ndarray, layout: Layout, axis: int) -> np.ndarray:
        """Mix one block.

        Args:
            block: float32, channels along `axis`.
            layout: the channels' speakers.

        Returns:
            Float32 `[n]`.
        """
        # What is not finite is refused later, with its place.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._mix(block, np.moveaxis(block, axis, 0), layout, axis)

    def _mix(self, block: np.ndarray, channels: np.ndarray, layout: Layout, axis: int) -> np.ndarray:
        if layout in self.weights:
            mixed = _weighed(channels, self.weights[layout])
        elif len(layout) <= 2:
            return self._measured(block.mean(axis=axis, dtype=np.float32), channels, layout)
        else:
            mixed = self._measured(_weighed(channels, _standard(layout)), channels, layout)
        if len(layout) > 2 and len(mixed):
            self.peak = max(self.peak, float(np.abs(mixed).max()))
        return mixed

    def _measured(self, mixed: np.ndarray, channels: np.ndarray, layout: Layout) -> np.ndarray:
        if len(layout) > 1:
            # No dot products: their library starts threads, which wait busily for the next block.
            signals = (mixed, *channels)
            sums = [[np.square(x, dtype=np.float64).sum(), x.sum(dtype=np.float64), len(x)] for x in signals]
            self._sums[layout] = self._sums.get(layout, 0.0) + np.array(sums)
        return mixed

    @property
    def gain(self) -> float:
        """A factor for the whole file, which keeps more than two channels from exceeding full scale."""
        return 1.0 / self.peak if self.peak > 1 else 1.0

    def instead(self) -> "Mixdown | None":
        """Another mix where channels cancel each other in this one; None where they do not."""
        weights = {}
        for layout, sums in self._sums.items():
            squares, totals, counts = sums.T
            # An offset is no sound: it does not cancel where the sound does.
            energies = squares - totals**2 / np.maximum(counts, 1)
            # What rounding leaves of an offset alone is nothing.
            mixed, *channels = np.where(energies < _ROUNDING * squares, 0.0, energies)
            standard = _standard(layout)
            heard = np.array(channels) * (standard > 0)
            if mixed < _CANCELLED * np.dot(standard**2, heard):
                candidates = list(heard)
                if len(layout) == 2:
                    # Half the sum and half the difference have half of both channels' energy together.
                    candidates.append(sum(channels) / 2 - mixed)
                weights[layout] = _alone(int(np.argmax(candidates)), len(layout))
        return Mixdown(weights) if weights else None


def _standard(layout: Layout) -> np.ndarray:
    if len(layout) <= 2 or not set(layout) <= _WEIGHTS.keys():
        return np.full(len(layout), 1 / len(layout), np.float32)
    return np.array([_WEIGHTS[speaker] for speaker in layout], np.float32)


def _alone(number: int, channels: int) -> np.ndarray:
    if number == channels:
        return np.array([0.5, -0.5], np.float32)
    return np.eye(channels, dtype=np.float32)[number]


def _weighed(channels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mixed = np.zeros(channels.shape[1], np.float32)
    for channel, weight in zip(channels, weights, strict=True):
        if weight:
            mixed += weight * channel
    return mixed
