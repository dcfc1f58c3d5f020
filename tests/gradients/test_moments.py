"""Moments against numpy in float64, whole and in parts."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.gradients import merge, moments


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 200_000), st.floats(1e-12, 1e3), st.integers(0, 2**31))
def test_equal_numpy(n: int, scale: float, seed: int) -> None:
    values = (np.random.default_rng(seed).gamma(2.0, size=n) * scale).astype(np.float32)
    wide = values.astype(np.float64)
    expected = [wide.sum(), (wide**2).sum(), (wide**3).sum(), wide.max(), wide.min()]
    np.testing.assert_allclose(moments(torch.from_numpy(values)).numpy(), expected, rtol=1e-12)


def test_parts_merge_to_the_whole() -> None:
    values = torch.randn(3, 40, 50, generator=torch.Generator().manual_seed(0))
    merged = merge([moments(part) for part in values])
    torch.testing.assert_close(merged, moments(values), rtol=1e-12, atol=1e-12)
