"""Parts that a container gives to a decoder, and errors that say what is missing."""

from dataclasses import dataclass

from lumina_ray.audio.view import View
from lumina_ray.errors import AudioError

TAGS = (b"TAG", b"ID3", b"APETAGEX")
"""How tags begin that any format may have behind its sound."""
_TAG_BYTES = 4096
_WINDOW_BYTES = 1 << 18
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 3_000_000
"""Sample rates outside of these are no sound that people hear: a damaged header, or a measurement of something else."""


@dataclass(frozen=True)
class Part:
    """A stretch of a file that one decoder reads from its beginning to its end.

    Attributes:
        view: its bytes.
        sndfile: libsndfile reads it, if it can; otherwise FFmpeg does.
        duration_s: its length as the file states it, or as its packets add up to; None where nothing tells it.
        stated: the decoded length is compared with `duration_s`.
        flac: what a FLAC file promises of its samples.
        timed: its packets say when they are played, and follow each other without edits: a jump is a hole.
    """

    view: View
    sndfile: bool = False
    duration_s: float | None = None
    stated: bool = False
    flac: "StreamInfo | None" = None
    timed: bool = False


@dataclass(frozen=True)
class StreamInfo:
    """The STREAMINFO block of a FLAC file.

    Attributes:
        rate_hz: sample rate.
        channels: number of channels.
        bits: bits of a sample.
        total: samples of one channel; 0 where the file does not say it.
        md5: of all samples, or None where the file does not say it.
        channel_mask: speakers as bits in the order of WAVEFORMATEXTENSIBLE, or None for the order of the format.
    """

    rate_hz: int
    channels: int
    bits: int
    total: int
    md5: bytes | None
    channel_mask: int | None


def truncated(label: str, promised: str, found: str) -> AudioError:
    """Make the error for a file that holds less than it promises."""
    return AudioError("audio.truncated", f"{label}: truncated: {promised}, {found}; fetch it again")


def require_extent(view: View, label: str, what: str, end: int, slack: int = 0) -> None:
    """Check that something ends within the file.

    Raises:
        AudioError: it does not ("audio.truncated").
    """
    if end - view.size > slack:
        raise truncated(label, f"its {what} ends at byte {end}", f"the file has {view.size} bytes")


def undecodable(label: str, why: str) -> AudioError:
    """Make the error for a file whose structure makes no sense."""
    return AudioError("audio.undecodable", f"{label}: {why}")


def require_rate(rate_hz: float, label: str) -> None:
    """Check a sample rate, of any format.

    Raises:
        AudioError: it is below `MIN_RATE_HZ`, above `MAX_RATE_HZ`, or no number ("audio.undecodable").
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        limits = f"outside of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
        raise undecodable(label, f"a sample rate of {rate_hz:.10g} Hz, {limits}; export it again")


def only_zeros(view: View, at: int) -> bool:
    """Whether zeros alone go from an offset to the end: writers fill the last block of a disk, or reserve more."""
    while window := view.at(at, _WINDOW_BYTES):
        if window.strip(b"\0"):
            return False
        at += len(window)
    return True


def require_alone(view: View, label: str, end: int, start: bytes, what: str) -> None:
    """Check that no second file follows the first one: a decoder would leave it out.

    Raises:
        AudioError: one does ("audio.undecodable").
    """
    # Tags may lie between the two.
    if start in view.at(end, _TAG_BYTES):
        raise joined(label, what)


def joined(label: str, what: str) -> AudioError:
    """Make the error for several files in one, of which a decoder would read the first alone."""
    return undecodable(label, f"several {what} files joined into one; split them, or join them with an audio editor")
