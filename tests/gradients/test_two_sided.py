"""Projected factors against the projected gradient."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.gradients import WeightCall, gradient_tiles, two_sided_projection


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99)
)
def test_equal_to_projecting_the_gradient(S: int, M: int, N: int, p: int, q: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    call = WeightCall(0, 0, torch.randn(3, S, N, generator=generator), torch.randn(3, S, M, generator=generator))
    left, right = torch.randn(p, M, generator=generator), torch.randn(q, N, generator=generator)
    rows, scales = [2, 0], [0.7, 0.3]
    (tile,) = gradient_tiles([call], rows, scales)
    expected = left.double() @ tile.values.double() @ right.double().T
    ours = two_sided_projection(call, left, right, rows, scales)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-4)
