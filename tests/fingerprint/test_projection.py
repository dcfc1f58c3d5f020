"""The sparse projection against its explicit matrix, its hash against published values, its promise by sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.fingerprint import projection
from lumina_ray.fingerprint.hashing import choice, signs, splitmix64
from lumina_ray.fingerprint.projection import SparseProjection


def project(sparse: SparseProjection, *parts: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(sparse.n_out, dtype=torch.float64)
    start = 0
    for part in parts:
        sparse.add(out, start, part)
        start += part.numel()
    return out


def explicit_matrix(sparse: SparseProjection) -> np.ndarray:
    eye = torch.eye(sparse.n_in)
    return np.stack([project(sparse, row).numpy() for row in eye], axis=1)


def test_hash_gives_the_published_splitmix64_sequence() -> None:
    # These are the first outputs of the reference splitmix64 with seed 1234567 (Rosetta Code, from Vigna's C code).
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    states = torch.tensor(1234567) + torch.arange(4) * -7046029254386353131
    assert [value % 2**64 for value in splitmix64(states).tolist()] == published


def test_signs_are_spread_and_scaled() -> None:
    matrix = signs(422024, 3, 16, 500, torch.device("cpu"))
    assert set(matrix.unique().tolist()) == {-0.25, 0.25}
    assert abs(float(matrix.sum()) * 4) < 4 * np.sqrt(8000)
    assert not torch.equal(matrix, signs(422024, 4, 16, 500, torch.device("cpu")))


def test_choices_are_sets_and_every_position_is_as_likely() -> None:
    counts = np.zeros(20)
    for stream in range(2000):
        chosen = choice(1, stream, 20, 5, torch.device("cpu")).tolist()
        assert chosen == sorted(set(chosen))
        assert len(chosen) == 5
        counts[chosen] += 1
    # Each count is binomial: 2000 draws, 1 in 4.
    assert abs(counts - 500).max() < 4 * np.sqrt(2000 * 0.25 * 0.75)


def test_matrix_has_one_signed_entry_per_coordinate_and_block() -> None:
    matrix = explicit_matrix(SparseProjection(n_in=200, n_out=64, nonzeros=4, seed=422024))
    blocks = matrix.reshape(4, 16, 200)
    assert ((blocks != 0).sum(axis=1) == 1).all()
    assert np.allclose(np.abs(matrix[matrix != 0]), 0.5)
    # Signs and buckets are spread: 800 entries over 64 outputs.
    assert abs(np.sign(matrix).sum()) < 4 * np.sqrt(800)
    assert (matrix != 0).sum(axis=1).max() < 30


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 150), st.integers(0, 2**31))
def test_equals_its_matrix_and_does_not_see_how_the_input_is_cut(cut: int, seed: int) -> None:
    sparse = SparseProjection(n_in=151, n_out=32, nonzeros=2, seed=seed)
    x = torch.randn(151, generator=torch.Generator().manual_seed(seed))
    whole = project(sparse, x)
    assert torch.equal(whole, project(sparse, x[:cut], x[cut:]))
    np.testing.assert_allclose(whole.numpy(), explicit_matrix(sparse) @ x.double().numpy(), atol=1e-12)


def test_tiles_and_the_cache_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    whole = project(SparseProjection(5000, 64, 4, seed=1), x)
    monkeypatch.setattr(projection, "_TILE", 700)
    np.testing.assert_allclose(project(SparseProjection(5000, 64, 4, seed=1), x).numpy(), whole.numpy(), atol=1e-12)


def test_inner_products_are_kept_on_average_with_the_variance_of_a_dense_projection() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3000))
    y = 0.6 * x + 0.8 * y
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    xt, yt = torch.from_numpy(x), torch.from_numpy(y)
    estimates = []
    for seed in range(300):
        sparse = SparseProjection(3000, 256, 4, seed)
        estimates.append(float(project(sparse, xt) @ project(sparse, yt)))
    sd = np.sqrt((1 + (x @ y) ** 2) / 256)
    assert np.mean(estimates) == pytest.approx(x @ y, abs=4 * sd / np.sqrt(300))
    assert np.std(estimates) == pytest.approx(sd, rel=0.2)


def test_bad_sizes_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"nonzeros \(3\) must divide n_out \(64\)"):
        SparseProjection(10, 64, 3, 0)
    with pytest.raises(ValueError, match="takes 10 numbers, got 11"):
        project(SparseProjection(10, 64, 4, 0), torch.zeros(11))
