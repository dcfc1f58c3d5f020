"""Draws are hashes of their positions: the same for all songs and lengths, stratified in time, normal in noise."""

import numpy as np
import pytest
import torch
from scipy import stats

from lumina_ray.model.diffusion import draws as drawing
from lumina_ray.model.diffusion.draws import drawn_noise, drawn_times
from lumina_ray.vocabulary import Draws

_MASK = (1 << 64) - 1


def splitmix64(x: int) -> int:
    """The published algorithm, in integers without a size."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & _MASK
    return x ^ x >> 31


def uniform(seed: int, stream: int, i: int) -> float:
    hashed = splitmix64((i + splitmix64(seed * 1_000_003 + stream)) & _MASK)
    return ((hashed & ((1 << 53) - 1)) + 0.5) / 2**53


def test_times_are_one_in_each_part() -> None:
    times_M = drawn_times(Draws(8, 3))
    assert [int(t * 4) for t in times_M.tolist()] == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_allclose(times_M, [(m // 2 + uniform(3, 0, m // 2)) / 4 for m in range(8)], rtol=1e-6)


def test_noise_is_box_mullers_of_the_hashes_and_its_opposite() -> None:
    noise_MCT = drawn_noise(Draws(4, 3), 4, 5)

    def box_muller(pair: int, i: int) -> float:
        radius = np.sqrt(-2 * np.log(uniform(3, 1 + 2 * pair, i)))
        return radius * np.cos(2 * np.pi * uniform(3, 2 + 2 * pair, i))

    for pair in range(2):
        expected = [[box_muller(pair, t * 4 + c) for t in range(5)] for c in range(4)]
        np.testing.assert_allclose(noise_MCT[2 * pair], expected, rtol=1e-5, atol=1e-7)
        assert torch.equal(noise_MCT[2 * pair + 1], -noise_MCT[2 * pair])


def test_a_shorter_chunk_has_the_beginning_of_the_same_noise() -> None:
    draws = Draws(4, 1)
    assert torch.equal(drawn_noise(draws, 8, 40)[..., :17], drawn_noise(draws, 8, 17))


def test_noise_is_normal_and_independent_between_draws_and_seeds() -> None:
    one, other = drawn_noise(Draws(4, 1), 16, 500), drawn_noise(Draws(4, 2), 16, 500)
    assert stats.kstest(one[::2].flatten().numpy(), "norm").pvalue > 1e-3
    # 5 standard deviations of a correlation of 8000 pairs.
    pairs = [(one[0], one[2]), (one[0], other[0]), (one[0, :, 1:], one[0, :, :-1]), (one[0, 1:], one[0, :-1])]
    for a, b in pairs:
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 5 / np.sqrt(8000)


@pytest.mark.parametrize("count", [2, 8])
def test_draws_of_one_seed_are_drawn_again(count: int) -> None:
    drawing._noise.cache_clear()
    first = drawn_noise(Draws(count, 9), 2, 30).clone()
    drawing._noise.cache_clear()
    assert torch.equal(first, drawn_noise(Draws(count, 9), 2, 30))


@pytest.mark.parametrize("count", [0, 1, 7, -2])
def test_draws_come_in_pairs(count: int) -> None:
    with pytest.raises(ValueError, match=f"pairs, got {count}"):
        Draws(count, 0)
