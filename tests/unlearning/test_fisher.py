"""Fisher information against plain autograd, exact sums against Python's integers, and the file."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.errors import ModelError, NumericsError, SpecificationMismatch, UnlearningError
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.files import weights_sha256
from lumina_ray.model.fisher import FISHER_FILE, fisher_of, load_fisher, save_fisher
from lumina_ray.unlearning.fisher import ExactSum, FisherSum, fisher_diagonal
from lumina_ray.unlearning.select import named_tensors
from lumina_ray.vocabulary import SongCodes
from tests.unlearning.test_unlearn import plain_gradient, some_songs


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MusicModel:
    return open_model(str(tiny_model_dir))


def two_chunks(seed: int) -> SongCodes:
    one, other = some_songs(2, seed)
    return SongCodes((one.chunks[0], other.chunks[0][:, :17]), (0.0, 10.0), (np.arange(40) != 5, np.ones(17, bool)))


def test_equal_to_squares_of_autograds_gradients(model: MusicModel) -> None:
    songs = [two_chunks(0), *some_songs(2, 1)]
    found = fisher_diagonal(model, songs)
    totals = {name: np.zeros_like(v, np.float64) for name, v in found.values.items()}
    n_codes = 0
    for song in songs:
        for chunk, heard in zip(song.chunks, song.heard, strict=True):
            n = sum(int(heard[: chunk.shape[1] - k].sum()) for k in range(4))
            gradients = plain_gradient(model, SongCodes((chunk,), (0.0,), (heard,)))
            for name, pieces in named_tensors(model).items():
                totals[name] += n * torch.cat([gradients[id(p)] for p in pieces]).double().numpy() ** 2
            n_codes += n
    for name, values in found.values.items():
        expected = totals[name] / n_codes
        np.testing.assert_allclose(values, expected, rtol=2e-3, atol=1e-7 * expected.max() + 1e-20)
    assert (found.n_songs, found.n_chunks) == (3, 4)


def test_any_order_and_any_grouping_give_the_same_bits(model: MusicModel) -> None:
    songs = [two_chunks(i) for i in range(4)]
    whole = fisher_diagonal(model, songs)
    assert fisher_diagonal(model, songs[::-1]).sha256 == whole.sha256
    parts = [FisherSum.empty(model) for _ in range(3)]
    for i, song in enumerate(songs):
        parts[i % 3].add(model, song)
    parts[2].merge(parts[0])
    parts[2].add_arrays(parts[1].to_arrays())
    assert parts[2].finish().sha256 == whole.sha256
    assert fisher_diagonal(model, songs[:3]).sha256 != whole.sha256


@given(st.lists(st.floats(0, 1e9, allow_subnormal=True), max_size=40), st.randoms())
def test_sums_are_those_of_whole_numbers(terms: list[float], random: object) -> None:
    total = ExactSum.zeros((1,))
    for term in terms:
        total.add(torch.tensor([term], dtype=torch.float64))
    exact = sum(int(Fraction(term) * 2**82) for term in terms)
    assert int(total.high[0]) * 2**52 + int(total.low[0]) == exact
    shuffled = list(terms)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other, rest = ExactSum.zeros((1,)), ExactSum.zeros((1,))
    for i, term in enumerate(shuffled):
        (other if i % 2 else rest).add(torch.tensor([term], dtype=torch.float64))
    other.merge(rest)
    assert (int(other.high[0]), int(other.low[0])) == (int(total.high[0]), int(total.low[0]))
    assert float(total.value()[0]) == pytest.approx(sum(terms), rel=1e-13, abs=1e-22)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e20])
def test_what_cannot_be_added_exactly_is_refused(value: float) -> None:
    with pytest.raises(NumericsError):
        ExactSum.zeros((2,)).add(torch.tensor([0.0, value], dtype=torch.float64))


def test_too_many_large_terms_are_noticed() -> None:
    total = ExactSum.zeros((1,))
    with pytest.raises(NumericsError, match="too large"):
        for _ in range(4):
            total.add(torch.tensor([2.0**32], dtype=torch.float64))


def test_file_beside_the_model(model: MusicModel, tmp_path: Path, tiny_model_dir: Path) -> None:
    found = fisher_diagonal(model, some_songs(1))
    path = tmp_path / FISHER_FILE
    with pytest.raises(ModelError, match="lumina fisher"):
        load_fisher(path)
    save_fisher(found, path)
    read = load_fisher(path)
    assert read.sha256 == found.sha256
    assert read.record == found.record
    (tmp_path / "model.safetensors").write_bytes((tiny_model_dir / "model.safetensors").read_bytes())
    assert weights_sha256(tmp_path) == model.weights_sha256
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="cannot be read"):
        load_fisher(path)
    path.write_bytes(data[:100])
    with pytest.raises(ModelError, match="cannot be read"):
        load_fisher(path)
    negative = {name: -v for name, v in found.values.items()}
    save_fisher(replace(found, values=negative), path)
    with pytest.raises(ModelError, match="0 or more"):
        load_fisher(path)
    model.fisher = replace(found, weights_sha256="f" * 64)
    with pytest.raises(SpecificationMismatch, match="was measured with weights"):
        fisher_of(model)
    model.fisher = found
    assert fisher_of(model) is found
    model.fisher = None


def test_no_songs_with_sound(model: MusicModel) -> None:
    silent = replace(some_songs(1)[0], heard=(np.zeros(40, bool),))
    with pytest.raises(UnlearningError, match="no"):
        fisher_diagonal(model, [silent])
