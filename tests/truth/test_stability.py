"""How steady shares are, where it is known."""

import numpy as np
import pytest

from lumina_ray.methods.kernel import RIDGE
from lumina_ray.truth.stability import stability


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _units(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.normal(size=(n, 64))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_perfect_copy_has_its_songs_share_for_certain_and_an_unrelated_one_none(rng: np.random.Generator) -> None:
    catalog, controls, unrelated = _units(rng, 30), _units(rng, 40), _units(rng, 1)
    copies = np.concatenate([catalog[:3], unrelated])
    chunks = {"P": [np.stack([copy] * 3) for copy in copies]}
    found = stability({"P": catalog}, {"P": controls}, {"P": copies}, chunks, [0, 1, 2, 3])["P"]
    # Of a song by itself the regression leaves 1 / (1 + λ), and nothing of it lies below the noise.
    assert found.share.value == pytest.approx(0.75 / (1 + RIDGE), rel=1e-4)
    assert found.width.value == pytest.approx(0, abs=1e-5)


def test_a_copy_whose_chunks_differ_has_a_share_that_moves(rng: np.random.Generator) -> None:
    catalog, controls = _units(rng, 30), _units(rng, 40)
    other = _units(rng, 1)[0]
    chunks = np.stack([catalog[0], other, catalog[0], other])
    copy = chunks.sum(axis=0) / np.linalg.norm(chunks.sum(axis=0))
    found = stability({"P": catalog}, {"P": controls}, {"P": copy[None]}, {"P": [chunks]}, [0])["P"]
    assert 0.4 < found.share.value < 0.9
    assert found.width.value > 0.5
    found = stability({"P": catalog}, {"P": controls}, {"P": copy[None]}, {"P": [chunks[:2]]}, [0])["P"]
    assert found.width.value == 1
