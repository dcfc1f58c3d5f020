"""Evidence of a chunk as unit vectors: two chunks share notes, or sound, where their vectors are close."""

import numpy as np

from lumina_ray.evidence import composition, sound
from lumina_ray.evidence.maps import SOUND_DIMS, Maps, shipped_maps, unit
from lumina_ray.evidence.spectra import (
    PITCH_HOP,
    PITCH_WINDOW,
    mel_levels,
    padded,
    pitches,
    pitches_at,
    power_spectra,
)
from lumina_ray.vocabulary import Evidence

DIMS: dict[Evidence, int] = {"composition": sum(composition.PARTS.values()), "sound": SOUND_DIMS}
"""How many numbers a vector has."""
QUARTER_TONES = (0, -4, -3, -2, -1, 1, 2, 3, 4)
"""Speeds that a query is tried at: 2^(k/24), 12 % faster or slower at most; every pitch moves by k quarter tones.
Its composition is described for each. Whole semitones of pitch count for nothing, so that a change of tempo alone is
covered too."""
SPEEDS = tuple(2 ** (k / 24) for k in QUARTER_TONES)


def descriptions(samples: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Describe a chunk before anything learned is applied: its composition by part, and its sound, float64 `[399]`.

    Args:
        samples: int16 `[n]`, as a `lumina_ray.audio.Chunk` has them.
    """
    return composition.composition_parts(pitches(padded(samples))), sound_description(samples)


def sound_description(samples: np.ndarray) -> np.ndarray:
    """Describe a chunk's sound before anything learned is applied, float64 `[399]`; see `descriptions`."""
    parts = sound.sound_parts(mel_levels(padded(samples)))
    return np.concatenate([parts[name] for name in sound.PARTS])


def evidence_vectors(samples: np.ndarray, maps: Maps | None = None) -> dict[Evidence, np.ndarray]:
    """Compute the evidence of a chunk: unit vectors, float32 `[DIMS]` each.

    In `composition`, the cosine of two vectors is the mean of the cosines of its three parts.

    Args:
        samples: int16 `[n]`, as a `lumina_ray.audio.Chunk` has them.
        maps: learned maps; those of the software by default.
    """
    return mapped(*descriptions(samples), maps or shipped_maps())


def query_vectors(samples: np.ndarray, maps: Maps | None = None) -> dict[Evidence, np.ndarray]:
    """Compute the evidence of a chunk that asks, for each of the speeds that it may be played at.

    Args:
        samples: int16 `[n]`, as a `lumina_ray.audio.Chunk` has them.
        maps: learned maps; those of the software by default.

    Returns:
        Unit vectors: "composition" float32 `[9, D]`, one for each of `SPEEDS`; "sound" float32 `[1, D]`.
    """
    maps = maps or shipped_maps()
    power_TF, of_sound = power_spectra(padded(samples), PITCH_WINDOW, PITCH_HOP), sound_description(samples)
    # Even numbers of quarter tones are semitones.
    tuned = {tuning: pitches_at(power_TF, tuning) for tuning in (0.0, 0.5)}
    by_speed = [
        mapped(composition.composition_parts(tuned[k % 2 / 2], speed), of_sound, maps)
        for k, speed in zip(QUARTER_TONES, SPEEDS, strict=True)
    ]
    return {"composition": np.stack([one["composition"] for one in by_speed]), "sound": by_speed[0]["sound"][None]}


def mapped(of_composition: dict[str, np.ndarray], of_sound: np.ndarray, maps: Maps) -> dict[Evidence, np.ndarray]:
    """Apply learned maps to what `descriptions` gives."""
    parts = [unit(maps.composition[name](unit(of_composition[name]))) for name in composition.PARTS]
    return {
        "composition": unit(np.concatenate(parts)).astype(np.float32),
        "sound": unit(maps.sound(of_sound)).astype(np.float32),
    }
