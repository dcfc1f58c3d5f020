"""Each container's promise of its length, read from the file itself before any library shortens it."""

from lumina_ray.audio.containers.part import Part, StreamInfo, require_rate, truncated
from lumina_ray.audio.containers.table import AAC, FORMATS, MPEG, Format, examine, recognise

__all__ = ["AAC", "FORMATS", "MPEG", "Format", "Part", "StreamInfo", "examine", "recognise", "require_rate",
           "truncated"]  # fmt: skip
