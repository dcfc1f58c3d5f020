"""Six statistics against numpy and scipy in float64."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lumina_ray.fingerprint import statistics
from lumina_ray.fingerprint.statistics import tensor_statistics


def reference(values: np.ndarray) -> list[float]:
    wide = values.astype(np.float64).ravel()
    skewness = scipy.stats.skew(wide) if np.ptp(wide) > 0 else 0.0
    return [wide.mean(), wide.std(ddof=1), np.linalg.norm(wide), wide.max(), wide.min(), float(skewness)]


@pytest.mark.parametrize("shape", [(3,), (64, 48), (1030, 1021)])
@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_equal_scipy_in_float64(shape: tuple[int, ...], scale: float) -> None:
    values = (np.random.default_rng(0).gamma(1.5, size=shape) * scale).astype(np.float32)
    ours = tensor_statistics([torch.from_numpy(values)], zero_mean=False)
    np.testing.assert_allclose(ours, reference(values), rtol=1e-9)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(2, 200), elements=st.floats(-1e3, 1e3, width=32)))
def test_equal_numpy_on_anything(values: np.ndarray) -> None:
    ours = tensor_statistics([torch.from_numpy(values)], zero_mean=False)
    expected = reference(values)
    np.testing.assert_allclose(ours[:5], expected[:5], rtol=1e-9, atol=1e-9)
    # Skewness of values that differ by rounding noise alone is itself noise.
    if np.std(values, dtype=np.float64) > 1e-6 * (1 + np.abs(values).max()):
        assert ours[5] == pytest.approx(expected[5], rel=1e-4, abs=1e-4)


def test_parts_are_one_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 100, 64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(statistics, "_TILE", 1000)
    tiled = tensor_statistics([q, k, v], zero_mean=False)
    np.testing.assert_allclose(tiled, reference(torch.cat([q, k, v]).numpy()), rtol=1e-9)


def test_structural_zeros_are_stored_as_zero_and_a_zero_tensor_has_no_nan() -> None:
    assert tensor_statistics([torch.randn(10, 10)], zero_mean=True)[0] == 0.0
    assert tensor_statistics([torch.zeros(10, 10)], zero_mean=False) == [0.0] * 6
