"""LoGra, FactGraSS, projected gradients and histograms of codes against what they are said to be, written out.

Hashes are computed again here, in Python's integers; gradients are autograd's.
"""

from math import isqrt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.kinds import KINDS, band_layers
from lumina_ray.model import TRACKED_TENSORS, MusicModel, open_model
from lumina_ray.vocabulary import CHANNELS, Channel, Kind, Representation, SongCodes
from tests.fingerprint.test_fingerprint import mean_gradients, random_codes

SEED = 422024


@pytest.fixture(scope="module")
def models(tiny_model_dir: Path) -> dict[str, MusicModel]:
    return {adapter: open_model(f"{adapter}{tiny_model_dir}") for adapter in ("", "audiocraft:")}


@pytest.fixture(scope="module")
def codes(models: dict[str, MusicModel]) -> SongCodes:
    return random_codes(models[""], [400, 260], 21)


def splitmix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def hashes(seed: int, stream: int, n: int) -> list[int]:
    offset = splitmix64(seed * 1_000_003 + stream)
    return [splitmix64((i + offset) % 2**64) for i in range(n)]


def rademacher(stream: int, rows: int, columns: int) -> np.ndarray:
    bits = np.array([h & 1 for h in hashes(SEED, stream, rows * columns)])
    return (bits * 2.0 - 1).reshape(rows, columns) / np.sqrt(rows)


def mask(stream: int, n: int, k: int) -> list[int]:
    signed = [h - 2**64 if h >= 2**63 else h for h in hashes(SEED, stream, n)]
    return sorted(sorted(range(n), key=signed.__getitem__)[:k])


def count_sketch(seed: int, n_in: int, n_out: int, blocks: int) -> np.ndarray:
    matrix, width = np.zeros((n_out, n_in)), n_out // blocks
    for block in range(blocks):
        for i, h in enumerate(hashes(seed, block, n_in)):
            matrix[block * width + (h >> 1 & 2**62 - 1) % width, i] = ((h & 1) * 2 - 1) / np.sqrt(blocks)
    return matrix


def gradients(model: MusicModel, codes: SongCodes, channel: Channel) -> list[tuple[int, np.ndarray]]:
    """The number and the gradient, float64 `[M, N]`, of every tensor of a channel's band."""
    mean_gradients(model, codes, (1, 1, 1, 1))
    return [
        (6 * layer + i, torch.cat([p.grad for p in model.tracked(layer, tensor)]).double().numpy())  # type: ignore[misc]
        for layer in band_layers(channel, model.n_layers)
        for i, tensor in enumerate(TRACKED_TENSORS)
    ]


def by_hand(kind: Kind, of_tensors: list[tuple[int, np.ndarray]]) -> np.ndarray:
    length = 4096 // len(of_tensors)
    p = isqrt(length)
    match kind:
        case "gradient":
            # A comparison entry by entry would take minutes, and the projection has its own test against its matrix.
            flat = np.concatenate([gradient.ravel() for _, gradient in of_tensors])
            out = np.zeros(4096)
            for block in range(4):
                h = np.array(hashes(SEED, block, len(flat)), np.uint64)
                buckets = (h >> np.uint64(1) & np.uint64(2**62 - 1)) % np.uint64(1024) + np.uint64(block * 1024)
                np.add.at(out, buckets, flat * ((h & np.uint64(1)) * 2.0 - 1) / 2)
            return out
        case "logra":
            pieces = [
                rademacher(2 * number, p, len(gradient)) @ gradient @ rademacher(2 * number + 1, p, gradient.shape[1]).T
                for number, gradient in of_tensors
            ]
        case _:
            pieces = []
            for number, gradient in of_tensors:
                sides = [mask(2 * number + side, n, min(2 * p, n)) for side, n in enumerate(gradient.shape)]
                block = gradient[np.ix_(*sides)]
                pieces.append(count_sketch(SEED + 1 + number, block.size, length, 1) @ block.ravel())
    return np.concatenate([piece.ravel() for piece in pieces])


@pytest.mark.parametrize("kind", ["gradient", "logra", "factgrass"])
def test_equal_to_autograds_gradient_and_matrices_written_out(
    models: dict[str, MusicModel], codes: SongCodes, kind: Kind
) -> None:
    for channel in CHANNELS:
        expected = by_hand(kind, gradients(models[""], codes, channel))
        for adapter, model in models.items():
            specification = Specification.for_model(model, kind, (channel,))
            # With 2 chunks in flight the song is summed from its factors, with 1 from tiles.
            for in_flight in (1, 2):
                ours = Fingerprinter(model, specification, in_flight)(codes)
                assert ours.norms[channel] == pytest.approx(np.linalg.norm(expected), rel=1e-4), adapter
                difference = ours.norms[channel] * ours.vectors[channel] - expected
                assert np.linalg.norm(difference) < 1e-4 * np.linalg.norm(expected), adapter


@pytest.mark.parametrize("n_layers", [8, 16, 48])
def test_never_more_than_4096_numbers(n_layers: int) -> None:
    shape = SimpleNamespace(n_layers=n_layers, representation=Representation("codes", 4, 2048))
    for kind in KINDS.values():
        for channel in CHANNELS:
            assert kind.dims(channel, shape) <= 4096


def test_tokens_are_counts_and_need_no_model(models: dict[str, MusicModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = models[""]
    codes = random_codes(model, [500, 311], 22)
    monkeypatch.setattr(model, "predict", lambda *_: pytest.fail("the model was run"))
    shares = np.array([sum(n - k for k in range(4)) for n in codes.frames], float)
    shares /= shares.sum()
    frequencies = [
        sum(
            share * np.bincount(chunk[k], minlength=512) / chunk.shape[1]
            for share, chunk in zip(shares, codes.chunks, strict=True)
        )
        for k in range(4)
    ]
    for in_flight in (1, 2):
        ours = Fingerprinter(model, Specification.for_model(model, "tokens"), in_flight)(codes)
        for channel, expected in (("P", frequencies[0]), ("M", np.concatenate(frequencies[1:]))):
            np.testing.assert_allclose(
                ours.norms[channel] * ours.vectors[channel],
                expected,
                atol=1e-7,  # type: ignore[index]
            )


def test_long_histograms_are_projected(monkeypatch: pytest.MonkeyPatch, models: dict[str, MusicModel]) -> None:
    model = models[""]
    monkeypatch.setattr(model, "codebook_size", 2048)
    rng = np.random.default_rng(0)
    songs = [SongCodes((rng.integers(0, 40 * i, (4, 500)).astype(np.uint16),), (0.0,)) for i in (1, 2, 9)]
    specification = Specification.for_model(model, "tokens")
    assert specification.dims == {"P": 2048, "M": 4096}
    fingerprinter = Fingerprinter(model, specification)
    ours = np.stack([fingerprinter(song).vectors["M"] for song in songs])
    counts = np.stack(
        [np.concatenate([np.bincount(song.chunks[0][k], minlength=2048) for k in (1, 2, 3)]) for song in songs]
    )
    exact = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    np.testing.assert_allclose(ours @ ours.T, exact @ exact.T, atol=5 / np.sqrt(4096))
    np.testing.assert_allclose(
        fingerprinter(songs[0]).vectors["P"] * np.linalg.norm(np.bincount(songs[0].chunks[0][0])),
        np.bincount(songs[0].chunks[0][0], minlength=2048), atol=1e-4,
    )  # fmt: skip
