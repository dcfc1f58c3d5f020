"""`centres.npz`: what an answer needs of a whole catalog, whichever part of it a process holds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lumina_ray.calibration import Reference, SongNoise
from lumina_ray.vocabulary import Channel


def write_centres(path: Path, centres: Mapping[Channel, np.ndarray], references: Mapping[Channel, Reference]) -> None:
    """Write the mean vector of a catalog and its reference songs, by channel."""
    arrays: dict[str, np.ndarray] = {}
    for channel, centre_D in centres.items():
        reference = references[channel]
        arrays |= {
            channel: centre_D,
            # They were float32 in the store.
            f"{channel}_reference": reference.vectors.astype(np.float32),
            f"{channel}_reference_mean": reference.noise.mean,
            f"{channel}_reference_spread": reference.noise.spread,
        }
    np.savez(path, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def read_centres(path: Path, channels: list[Channel]) -> tuple[dict[Channel, np.ndarray], dict[Channel, Reference]]:
    """Read what `write_centres` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        centres = {c: arrays[c] for c in channels}
        references = {
            c: Reference(
                arrays[f"{c}_reference"].astype(np.float64),
                SongNoise(arrays[f"{c}_reference_mean"], arrays[f"{c}_reference_spread"]),
            )
            for c in channels
        }
    return centres, references
