"""Musical aspects of shared evidence: harmony and rhythm of its notes, and timbre.

Each is a part of what stores keep of a song's chunks, so that it costs no audio. Harmony is which pitch classes sound
together and follow each other, in any key; rhythm is when notes begin; timbre is the whole of the sound.

Shape legend: n = chunks, N = songs, D = numbers of an aspect.
"""

from collections.abc import Mapping

import numpy as np

from lumina_ray.evidence.composition import PARTS
from lumina_ray.evidence.maps import unit_rows
from lumina_ray.vocabulary import Compared, Evidence

_HARMONY = PARTS["harmony"] + PARTS["progressions"]
"""Numbers of a composition before those of its rhythm."""


def part_of(compared: Compared, vectors: Mapping[Evidence, np.ndarray]) -> np.ndarray:
    """Take what is compared from the evidence of some chunks: float32 unit vectors `[n, D]`.

    Args:
        vectors: by kind, `[n, ·]`.
    """
    match compared:
        case "harmony":
            return unit_rows(vectors["composition"][:, :_HARMONY].astype(np.float32))
        case "rhythm":
            return unit_rows(vectors["composition"][:, _HARMONY:].astype(np.float32))
    return vectors[compared].astype(np.float32)


def song_features(vectors: Mapping[Evidence, np.ndarray]) -> dict[str, list[float]]:
    """Describe a song as a row of a table of features (`lumina_ray.diagnostics`): the mean of its chunks.

    Args:
        vectors: as for `part_of`.
    """
    harmony, rhythm, timbre = (part_of(name, vectors).mean(axis=0) for name in ("harmony", "rhythm", "sound"))
    intervals, progressions = np.split(harmony, [PARTS["harmony"]])
    return {
        "harmony.intervals": intervals.tolist(),
        "harmony.progressions": progressions.tolist(),
        "rhythm.onsets": rhythm.tolist(),
        "timbre.sound": timbre.tolist(),
    }
