"""Makes the bundled weights of musicnn from its package: `python -m lumina_ray.embedding.convert_musicnn FOLDER FILE`.

FOLDER is `musicnn/MSD_musicnn` of the package musicnn 0.1.0, and FILE the `musicnn.npz` to write.
"""

import sys
from pathlib import Path

import numpy as np

from lumina_ray.embedding.musicnn import SHAPES
from lumina_ray.embedding.tensorflow_checkpoint import read_tensorflow_checkpoint
from lumina_ray.files import atomic_path


def convert(folder: Path, path: Path) -> None:
    """Write the tensors that vectors need, in half precision.

    Raises:
        ModelError: the folder holds no checkpoint.
    """
    arrays = read_tensorflow_checkpoint(folder)
    kept = {name: arrays[name].astype(np.float16) for name in SHAPES}
    assert all(np.isfinite(array).all() for array in kept.values())
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **kept)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
