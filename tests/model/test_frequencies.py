"""Frequencies of codes: counted, kept beside the weights, and refused where they are none."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.errors import ModelError, SpecificationMismatch
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.model import open_model
from lumina_ray.model.frequencies import (
    FREQUENCIES_FILE,
    UNIFORM,
    code_frequencies,
    load_frequencies,
    save_frequencies,
    uniform_frequencies,
)
from tests.tiny_model import tiny_music_model


@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=20), min_size=1, max_size=4))
def test_they_are_counts_with_a_tenth_spread_evenly(songs: list[list[int]]) -> None:
    found_KC = code_frequencies([np.array([song, song[::-1]], np.uint16) for song in songs], 2, 8)
    everything = [code for song in songs for code in song]
    expected = [0.9 * everything.count(code) / len(everything) + 0.1 / 8 for code in range(8)]
    np.testing.assert_allclose(found_KC, [expected, expected], rtol=1e-6)
    assert found_KC.dtype == np.float32


def test_no_song_has_no_frequencies() -> None:
    with pytest.raises(ModelError, match="at least one song"):
        code_frequencies([], 4, 8)


def test_they_are_read_back_and_uniform_where_there_are_none(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load_frequencies(tmp_path, 4, 8), uniform_frequencies(4, 8))
    made = code_frequencies([np.arange(8).repeat(4).reshape(4, 8)], 4, 8)
    assert save_frequencies(made, tmp_path) == tmp_path / FREQUENCIES_FILE
    np.testing.assert_array_equal(load_frequencies(tmp_path, 4, 8), made)


@pytest.mark.parametrize(
    "damaged",
    [
        np.zeros((4, 8), np.float32),
        np.full((4, 8), np.nan, np.float32),
        np.full((4, 9), 1 / 9, np.float32),
        np.full((4, 8), 1 / 8),
        np.array({"a": 1}, dtype=object),
    ],
    ids=["zero", "nan", "shape", "float64", "pickle"],
)
def test_what_is_none_is_refused_by_name(tmp_path: Path, damaged: np.ndarray) -> None:
    np.save(tmp_path / FREQUENCIES_FILE, damaged)
    with pytest.raises(ModelError, match=r"code_frequencies\.npy: .*lumina frequencies"):
        load_frequencies(tmp_path, 4, 8)


def test_codes_of_another_codec_are_refused() -> None:
    for foreign in (np.zeros((3, 5), np.int64), np.full((4, 5), 8)):
        with pytest.raises(ModelError, match="another codec"):
            code_frequencies([foreign], 4, 8)


def test_a_model_whose_frequencies_changed_makes_no_fingerprints_of_the_old_ones() -> None:
    model = tiny_music_model()
    old = Specification.for_model(model, "influence")
    model.code_frequencies_KC = code_frequencies([np.zeros((4, 5), np.int64)], 4, model.codebook_size)
    with pytest.raises(SpecificationMismatch, match=r"code_frequencies\.npy"):
        Fingerprinter(model, old)
    Fingerprinter(model, Specification.for_model(model, "influence"))


@pytest.mark.parametrize("name", ["nano", "nano-early", "audiocraft:nano"])
def test_bundled_models_know_how_often_codes_occur(name: str) -> None:
    model = open_model(name)
    frequencies_KC = model.code_frequencies_KC
    assert frequencies_KC.shape == (model.n_codebooks, model.codebook_size)
    assert not np.allclose(frequencies_KC, 1 / model.codebook_size)


def test_only_fingerprints_that_depend_on_them_carry_their_hash() -> None:
    model = tiny_music_model()
    assert Specification.for_model(model, "influence").frequencies_sha256 == UNIFORM
    before = {kind: Specification.for_model(model, kind) for kind in ("influence", "head-gradient", "stats")}  # type: ignore[arg-type]
    model.code_frequencies_KC = code_frequencies([np.zeros((4, 5), np.int64)], 4, model.codebook_size)
    after = {kind: Specification.for_model(model, kind) for kind in before}  # type: ignore[arg-type]
    assert [kind for kind in before if before[kind] != after[kind]] == ["influence"]
