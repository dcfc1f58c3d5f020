"""Durations and tags of audio files, read without decoding them."""

from typing import BinaryIO, NamedTuple

from lumina_ray.audio.containers import Format, Part, recognise
from lumina_ray.audio.ffmpeg import default_stream, open_ffmpeg, possible_s, stated_s
from lumina_ray.audio.source import whole
from lumina_ray.errors import AudioError


class Header(NamedTuple):
    """Duration in seconds, or None where nothing tells it, and tags by their names in lower case."""

    duration_s: float | None
    tags: dict[str, str]


def audio_header(file: BinaryIO, label: str, walk: bool) -> Header:
    """Read the header of an open file.

    Args:
        walk: read as much of the file as it takes to know how long it is; otherwise FFmpeg estimates it from the
            beginning.

    Raises:
        AudioError: the file is not audio, or, where it is walked, less than it promises.
    """
    view = whole(file)
    sound, known = recognise(view, label)
    parts = known.examine(sound, label) if walk else []
    told_s = (
        possible_s(sum(part.duration_s or 0.0 for part in parts)) if all(part.duration_s for part in parts) else None
    )
    estimated = not parts or (len(parts) == 1 and not _untold(parts[0], known))
    try:
        # Tags may lie before the sound, so that FFmpeg gets the whole file.
        with open_ffmpeg(view, known, label) as container:
            stream = container.streams.audio[default_stream(container) or 0]
            # Ogg keeps its tags with the stream, other containers with the file.
            tags = {key.lower(): value.strip() for key, value in {**container.metadata, **stream.metadata}.items()}
            # Matroska states one length for all of its streams, and the sound may end before the picture.
            shared = len(container.streams) > 1 and not stream.duration
            return Header(told_s or (stated_s(container, stream) if estimated and not shared else None), tags)
    except AudioError:
        if not told_s:
            raise
        return Header(told_s, {})


def _untold(part: Part, known: Format) -> bool:
    """Whether a file could tell its length and does not: FFmpeg's estimate may then be far off."""
    if part.sndfile:
        return part.flac is not None
    return bool(known.promises) and not part.stated
