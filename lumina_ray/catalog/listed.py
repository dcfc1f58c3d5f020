"""Comparison of a decoded file with what its manifest says of it."""

from collections.abc import Mapping
from typing import Any

from lumina_ray.audio import Audio
from lumina_ray.errors import AudioError

LISTED_COLUMNS = ("sha256", "duration_s")
"""Columns of a manifest that say which file is meant."""

# Databases hold whole seconds, and encoders pad the ends.
_TOLERANCE_S, _TOLERANCE = 1.0, 0.02


def check_listed(song: Mapping[str, Any], audio: Audio) -> None:
    """Check that a file is the one that a manifest lists. What the manifest does not say is not compared.

    Args:
        song: a row of the manifest, as `read_manifest` gives it.

    Raises:
        AudioError: `audio.changed`, another sha256 or another duration than the manifest's.
    """
    sha256, duration_s = (song.get(column) for column in LISTED_COLUMNS)
    advice = "it is another file, or was changed since; list it again, or fetch the one that was listed"
    if sha256 is not None and sha256 != audio.sha256:
        raise AudioError(
            "audio.changed",
            f"{song['path']}: its sha256 is {audio.sha256}, the manifest lists {sha256}: {advice}",
        )
    if duration_s is not None and abs(duration_s - audio.duration_s) > max(_TOLERANCE_S, _TOLERANCE * audio.duration_s):
        raise AudioError(
            "audio.changed",
            f"{song['path']}: its duration_s is {audio.duration_s:.1f}, the manifest lists {duration_s:.1f}: {advice}",
        )
