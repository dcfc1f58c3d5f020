"""Opening files with FFmpeg: as the format that their content is of, and nothing that they name."""

from collections.abc import Iterator
from contextlib import contextmanager

import av

from lumina_ray.audio.containers import Format
from lumina_ray.audio.view import View
from lumina_ray.errors import AudioError

# A year.
_MAX_STATED_S = 366 * 86_400


@contextmanager
def open_ffmpeg(view: View, known: Format, label: str, refused: str = "") -> Iterator[av.container.InputContainer]:
    """Open a file, and turn FFmpeg's errors within the block into those of this package.

    Args:
        refused: begins the error message, where another library has refused the file before.

    Raises:
        AudioError: FFmpeg cannot read it, or there is no audio stream in it.
    """
    # FFmpeg may read these bytes, and nothing that they name. Without this limit, a playlist, a concat script or a
    # session description would make FFmpeg open files and addresses that the file's author chose.
    options = {"protocol_whitelist": "pipe", "format_whitelist": known.demuxer}
    try:
        with av.open(view.buffered(), format=known.demuxer, options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError("audio.undecodable", f"{label}: holds no audio stream")
            yield container
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise AudioError(
            "audio.undecodable",
            f"{label}: cannot be read by {refused}FFmpeg ({error}); fetch it again, or re-encode it as FLAC",
        ) from error


def default_stream(container: av.container.InputContainer) -> int | None:
    """The number of the one audio stream that is marked as the default; None where none is, or several are."""
    default = av.stream.Disposition.default
    marked = [number for number, stream in enumerate(container.streams.audio) if stream.disposition & default]
    return marked[0] if len(marked) == 1 else None


def stated_s(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """The duration in seconds that FFmpeg finds in a file, or None where it finds none that can be."""
    if stream.duration and stream.time_base:
        return possible_s(float(stream.duration * stream.time_base))
    return possible_s(container.duration / av.time_base) if container.duration else None


def possible_s(seconds: float) -> float | None:
    """A duration, or None for one that no file has: a library's "unknown", or nonsense."""
    return seconds if 0 < seconds < _MAX_STATED_S else None
