"""Six statistics against numpy and scipy in float64."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lumina_ray.fingerprint.gradient_statistics import six_statistics
from lumina_ray.gradients import merge, moments


def statistics(values: np.ndarray, *, zero_mean: bool = False) -> list[float]:
    return six_statistics(moments(torch.from_numpy(values)).tolist(), values.size, zero_mean=zero_mean)


def reference(values: np.ndarray) -> list[float]:
    wide = values.astype(np.float64).ravel()
    skewness = scipy.stats.skew(wide) if np.ptp(wide) > 0 else 0.0
    return [wide.mean(), wide.std(ddof=1), np.linalg.norm(wide), wide.max(), wide.min(), float(skewness)]


@pytest.mark.parametrize("shape", [(3,), (64, 48), (1030, 1021)])
@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_equal_scipy_in_float64(shape: tuple[int, ...], scale: float) -> None:
    values = (np.random.default_rng(0).gamma(1.5, size=shape) * scale).astype(np.float32)
    ours = statistics(values)
    np.testing.assert_allclose(ours, reference(values), rtol=1e-9)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(2, 200), elements=st.floats(-1e3, 1e3, width=32)))
def test_equal_numpy_on_anything(values: np.ndarray) -> None:
    ours, expected = statistics(values), reference(values)
    np.testing.assert_allclose(np.delete(ours[:5], 1), np.delete(expected[:5], 1), rtol=1e-9, atol=1e-9)
    # Sums about zero keep the spread of numbers that are spread about zero, as gradients are.
    if np.std(values, dtype=np.float64) > 1e-2 * np.abs(values).max():
        assert ours[1] == pytest.approx(expected[1], rel=1e-9)
        assert ours[5] == pytest.approx(expected[5], rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(2, 200_000), min_size=1, max_size=4))
def test_parts_are_one_tensor(sizes: list[int]) -> None:
    parts = [np.random.default_rng(i).gamma(1.5, size=n).astype(np.float32) for i, n in enumerate(sizes)]
    merged = merge([moments(torch.from_numpy(part)) for part in parts])
    ours = six_statistics(merged.tolist(), sum(sizes), zero_mean=False)
    np.testing.assert_allclose(ours[:5], reference(np.concatenate(parts))[:5], rtol=1e-9)


def test_structural_zeros_are_stored_as_zero_and_a_zero_tensor_has_no_nan() -> None:
    assert statistics(np.random.default_rng(0).normal(size=100).astype(np.float32), zero_mean=True)[0] == 0.0
    assert statistics(np.zeros(100, np.float32)) == [0.0] * 6
    assert statistics(np.full(100, 0.1, np.float32))[5] == 0.0
