"""CLEWS with random weights against NumPy and torch's own layers, its distance, and what is no CLEWS."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from torch.nn import functional

from lumina_ray.embedding import clews
from lumina_ray.errors import ModelError
from tests.embedding.tiny import CLEWS, write_clews

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.from_numpy((0.1 * np.random.default_rng(0).standard_normal((2, 320_000))).astype(np.float32))


def test_a_shingle_has_one_vector_and_the_same_bits_whatever_came_before(tmp_path: Path, windows: torch.Tensor) -> None:
    write_clews(tmp_path)
    network = clews.load(tmp_path, CPU)
    with torch.no_grad():
        found = network.embed(windows)
        network.embed(windows.flip(0))
        again = network.embed(windows)
        alone = network.embed(windows[1:])
    assert (network.dims, found.shape) == (10, (2, 10))
    assert torch.equal(found, again)
    torch.testing.assert_close(alone[0], found[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_the_front_end_is_a_constant_q_transform_as_nnaudio_computes_it(tmp_path: Path, windows: torch.Tensor) -> None:
    network: Any = write_clews(tmp_path)
    state = {name: values.double().numpy() for name, values in network.state_dict().items()}
    padded = np.pad(windows[0].double().numpy(), 128, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 256)[::1600]
    real, imaginary = (frames @ state[f"cqt.0.cqt_kernels_{part}"][:, 0].T for part in ("real", "imag"))
    magnitudes = np.hypot(real, imaginary).T * np.sqrt(state["cqt.0.lenghts"])[:, None]
    pooled = magnitudes[:, : magnitudes.shape[1] // 5 * 5].reshape(84, -1, 5).mean(axis=2)
    with torch.no_grad():
        found = network.cqt(windows[:1])
        np.testing.assert_allclose(found[0], pooled, rtol=1e-3, atol=1e-6)
        prepared = network.frontend[0](found[:, None])[0, 0]
    rooted = np.sqrt(pooled)
    expected = (rooted - rooted.min()) / (rooted.max() - rooted.min() + 1e-6)
    np.testing.assert_allclose(prepared, state["frontend.0.gain"] * expected + state["frontend.0.bias"], atol=1e-4)


def test_blocks_and_pooling_are_those_of_its_layers(tmp_path: Path) -> None:
    network: Any = write_clews(tmp_path)
    block = network.backbone[2]  # 6 to 8 channels, in half the size
    x = torch.randn(2, 6, 9, 11, generator=torch.Generator().manual_seed(0))

    def norm(x: torch.Tensor, of: Any) -> torch.Tensor:
        shape = (1, -1, 1, 1)
        centred = (x - of.running_mean.view(shape)) / (of.running_var.view(shape) + 1e-5).sqrt()
        return centred * of.weight.view(shape) + of.bias.view(shape)

    with torch.no_grad():
        first, both = block.convs[0], x.chunk(2, dim=1)
        mean, variance = both[1].mean((2, 3), keepdim=True), both[1].var((2, 3), keepdim=True, correction=0)
        instance = (both[1] - mean) / (variance + 1e-5).sqrt()
        instance = instance * first.inst.weight.view(1, -1, 1, 1) + first.inst.bias.view(1, -1, 1, 1)
        y = torch.cat([norm(both[0], first.bn), instance], dim=1).relu()
        y = functional.conv2d(y, block.convs[2].conv.weight, stride=2, padding=1)
        y = functional.conv2d(norm(y, block.convs[3]).relu(), block.convs[5].conv.weight, padding=1)
        skip = functional.conv2d(norm(x, block.skip[0]).relu(), block.skip[2].conv.weight, stride=2, padding=1)
        torch.testing.assert_close(block(x), block.gain * y + skip, atol=1e-5, rtol=1e-4)
        power = 1 + np.log1p(np.exp(float(network.pool.p)))
        expected = np.maximum(x.double().numpy(), 1e-6).reshape(2, 6, -1) ** power
        np.testing.assert_allclose(network.pool(x), expected.mean(axis=2) ** (1 / power), rtol=1e-4)


def test_its_distance_is_the_mean_over_the_best_pairs_without_replacement() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((4, 6)), rng.standard_normal((3, 6))
    squares = ((one[:, None] - other[None]) ** 2).mean(axis=2)

    def greedy(pairs: int) -> float:
        """The first pairs of the order of shingles that takes the smallest distance left at every step."""
        orders = [
            [(i, j) for i, j in zip(rows, columns, strict=False)]
            for rows in permutations(range(4), 3)
            for columns in permutations(range(3))
        ]
        best = min(orders, key=lambda order: [squares[pair] for pair in order])
        return float(np.mean([squares[pair] for pair in best[:pairs]]))

    for pairs in (1, 2, 3):
        assert clews.shingle_distance(one, other, pairs) == pytest.approx(greedy(pairs))
        assert clews.shingle_distance(other, one, pairs) == pytest.approx(greedy(pairs))
    assert clews.shingle_distance(one, other) == pytest.approx(greedy(3))
    assert clews.shingle_distance(one, one) == 0


def test_a_folder_that_holds_something_else_says_what(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"clews \(checkpoint_best\.ckpt: No such file.*zenodo"):
        clews.load(tmp_path, CPU)
    whole = write_clews(tmp_path).state_dict()

    def load(state: object, configuration: object = CLEWS) -> None:
        torch.save(state, tmp_path / clews.CHECKPOINT_FILE)
        (tmp_path / clews.CONFIGURATION_FILE).write_text(yaml.safe_dump(configuration))
        clews.load(tmp_path, CPU)

    with pytest.raises(ModelError, match=r"lacks tensors: proj\.1\.weight"):
        load({"model": {name: values for name, values in whole.items() if name != "proj.1.weight"}})
    with pytest.raises(ModelError, match=r"has unknown tensors: proj\.2\.weight"):
        load({"model": whole | {"proj.2.weight": torch.zeros(3)}})
    with pytest.raises(ModelError, match=r"proj\.1\.weight is \(3,\), not \(10, 8\)"):
        load({"model": whole | {"proj.1.weight": torch.zeros(3)}})
    with pytest.raises(ModelError, match=r"checkpoint_best\.ckpt: KeyError: 'model'"):
        load({"state_dict": whole})
    with pytest.raises(ModelError, match=r"checkpoint_best\.ckpt holds pathlib\.PosixPath, which is more than numbers"):
        load({"model": whole, "more": tmp_path})  # what runs code when it is read
    with pytest.raises(ModelError, match=r"configuration\.yaml: KeyError: 'backbone'"):
        load({"model": whole}, CLEWS | {"model": {k: v for k, v in CLEWS["model"].items() if k != "backbone"}})
    with pytest.raises(ModelError, match="shingles of 160000 samples at 16000 Hz, not 320000 at 16000"):
        load({"model": whole}, CLEWS | {"model": CLEWS["model"] | {"shingling": {"len": 10, "hop": 5}}})
    (tmp_path / clews.CHECKPOINT_FILE).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded as clews"):
        clews.load(tmp_path, CPU)
