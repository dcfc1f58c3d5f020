"""Takes what nobody hears out of audio: everything below 20 Hz, with a constant offset, which some converters leave."""

import functools
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType

import numpy as np

# `scipy.signal.butter(2, 20, "highpass", fs=32_000, output="sos")`, and what `scipy.signal.sosfilt_zi` makes of it: the
# state of the filter after a constant 1. Written out, since SciPy's `signal` imports `scipy.stats` and takes longer to
# import than all else that decodes audio.
SECTION = (0.9972270499044704, -1.9944540998089408, 0.9972270499044704, 1.0, -1.9944464105419268, 0.9944617890759538)
STEADY = (-0.9972270498983251, 0.9972270498983592)


def steady_state(sample: float) -> np.ndarray:
    """Compute the filter's state as if a sample had always been there: an offset is no sound where it begins either.

    Args:
        sample: the first sample of the audio.

    Returns:
        Float64 `[1, 2]`.
    """
    return np.array([STEADY]) * sample


def high_passed(samples: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filter one block of audio (Butterworth, second order).

    Args:
        samples: float `[n]`, mono, 32 kHz.
        state: float64 `[1, 2]`, after the block before.

    Returns:
        Float64 `[n]`, and the state after this block.
    """
    section, heard, after = np.array([SECTION]), np.array(samples, np.float64), state.copy()
    _in_place()(section, heard[None], after[None])
    return heard, after


@functools.cache
def _in_place() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """SciPy's compiled filter, which overwrites samples `[1, n]` and state `[1, 1, 2]`."""
    found = find_spec("scipy")
    folder = Path(found.origin).parent / "signal" if found and found.origin else Path()
    spec = PathFinder.find_spec("_sosfilt", [str(folder)])
    if spec is None or spec.loader is None:
        return _slow_to_import
    module: ModuleType = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, "_sosfilt", _slow_to_import)


def _slow_to_import(section: np.ndarray, samples: np.ndarray, state: np.ndarray) -> None:
    """Do as `_in_place` says, where a version of SciPy keeps its filter elsewhere."""
    from scipy.signal import sosfilt

    samples[0], state[0] = sosfilt(section, samples[0], zi=state[0])
