"""Features of songs that never were: random gradients with a few strong directions in common."""

import numpy as np

from lumina_ray.methods import Features


def gradients(n: int, D: int, seed: int, C: int = 1) -> np.ndarray:
    """Random gradients of different lengths, float64 `[C, n, D]`."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(C, 3, D))
    return rng.normal(size=(C, n, 3)) @ common + rng.normal(size=(C, n, D)) * rng.uniform(0.2, 2, size=(1, n, 1))


def features(raw_CnD: np.ndarray, **more: object) -> Features:
    """The features that fingerprints of these gradients would give."""
    norms_Cn = np.linalg.norm(raw_CnD, axis=2)
    return Features((raw_CnD / norms_Cn[..., None]).astype(np.float32), norms_Cn, **more)  # type: ignore[arg-type]
