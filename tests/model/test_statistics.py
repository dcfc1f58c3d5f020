"""Statistics of a model's music: counted, kept beside the weights, and refused where they are none."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.errors import ModelError, SpecificationMismatch
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.music_statistics import measure_music_statistics
from lumina_ray.model import open_model
from lumina_ray.model.statistics import (
    STATISTICS_FILE,
    UNKNOWN,
    MusicStatistics,
    code_frequencies,
    load_statistics,
    no_statistics,
    save_statistics,
    shared_directions,
)
from lumina_ray.vocabulary import SongCodes
from tests.tiny_model import tiny_music_model

UNIFORM_48 = np.full((4, 8), 1 / 8, np.float32)


@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=20), min_size=1, max_size=4))
def test_frequencies_are_counts_with_a_tenth_spread_evenly(songs: list[list[int]]) -> None:
    found_KC = code_frequencies([np.array([song, song[::-1]], np.uint16) for song in songs], 2, 8)
    everything = [code for song in songs for code in song]
    expected = [0.9 * everything.count(code) / len(everything) + 0.1 / 8 for code in range(8)]
    np.testing.assert_allclose(found_KC, [expected, expected], rtol=1e-6)
    assert found_KC.dtype == np.float32


def test_no_song_has_no_frequencies() -> None:
    with pytest.raises(ModelError, match="at least one song"):
        code_frequencies([], 4, 8)


@pytest.mark.parametrize(("n_songs", "dims"), [(5, 12), (40, 12)], ids=["fewer-songs", "more-songs"])
def test_taking_shared_directions_back_is_the_inverse_root_of_the_second_moment(n_songs: int, dims: int) -> None:
    rng = np.random.default_rng(0)
    X_ND = rng.normal(size=(n_songs, dims)) + 1
    X_ND /= np.linalg.norm(X_ND, axis=1, keepdims=True)
    B_Dr = shared_directions(X_ND.astype(np.float32)).astype(np.float64)
    ridge = 2.0 * n_songs / min(n_songs, dims)
    root_DD = scipy.linalg.sqrtm(np.linalg.inv(X_ND.T @ X_ND + ridge * np.eye(dims)))
    np.testing.assert_allclose(np.eye(dims) - B_Dr @ B_Dr.T, np.sqrt(ridge) * root_DD, atol=2e-3)


def test_they_are_read_back_and_unknown_where_there_are_none(tmp_path: Path) -> None:
    nothing = load_statistics(tmp_path, 4, 8)
    np.testing.assert_array_equal(nothing.frequencies_KC, UNIFORM_48)
    assert not nothing.shared
    assert nothing.sha256 == no_statistics(4, 8).sha256 == UNKNOWN
    shared_Dr = shared_directions(np.eye(3, 16, dtype=np.float32))
    made = MusicStatistics(code_frequencies([np.arange(8).repeat(4).reshape(4, 8)], 4, 8), {"M": shared_Dr})
    assert save_statistics(made, tmp_path) == tmp_path / STATISTICS_FILE
    read = load_statistics(tmp_path, 4, 8)
    np.testing.assert_array_equal(read.frequencies_KC, made.frequencies_KC)
    np.testing.assert_array_equal(read.shared["M"], made.shared["M"])
    assert read.sha256 == made.sha256 != MusicStatistics(made.frequencies_KC).sha256


@pytest.mark.parametrize(
    "damaged",
    [
        {"frequencies": np.zeros((4, 8), np.float32)},
        {"frequencies": np.full((4, 8), np.nan, np.float32)},
        {"frequencies": np.full((4, 9), 1 / 9, np.float32)},
        {"frequencies": np.full((4, 8), 1 / 8)},
        {"frequencies": np.array({"a": 1}, dtype=object)},
        {"shared_P": np.zeros((4, 2), np.float16)},
        {"frequencies": UNIFORM_48, "shared_P": np.full((16, 2), np.inf, np.float16)},
    ],
    ids=["zero", "nan", "shape", "float64", "pickle", "no-frequencies", "infinite"],
)
def test_what_is_none_is_refused_by_name(tmp_path: Path, damaged: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / STATISTICS_FILE, **damaged)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"music_statistics\.npz: .*lumina statistics"):
        load_statistics(tmp_path, 4, 8)


def test_a_file_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    save_statistics(MusicStatistics(UNIFORM_48, {"P": np.ones((16, 2), np.float32)}), tmp_path)
    path = tmp_path / STATISTICS_FILE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"music_statistics\.npz: .*lumina statistics"):
        load_statistics(tmp_path, 4, 8)


def test_codes_of_another_codec_are_refused() -> None:
    for foreign in (np.zeros((3, 5), np.int64), np.full((4, 5), 8)):
        with pytest.raises(ModelError, match="another codec"):
            code_frequencies([foreign], 4, 8)


def _songs(codebook_size: int, n: int) -> list[SongCodes]:
    rng = np.random.default_rng(0)
    return [SongCodes((rng.integers(codebook_size, size=(4, 60), dtype=np.uint16),), (0.0,)) for _ in range(n)]


def test_a_catalogs_fingerprints_are_those_without_with_the_shared_directions_taken_back() -> None:
    """By the definition: `(XᵀX + λI)^(−1/2) x`, X the unit vectors of the same songs before."""
    model = tiny_music_model()
    songs = _songs(model.codebook_size, 6)
    pieces = [song.chunks[0] for song in songs]
    model.statistics = MusicStatistics(code_frequencies(pieces, 4, model.codebook_size))
    before = [Fingerprinter(model, Specification.for_model(model, "influence"))(song) for song in songs]
    steps: list[tuple[int, int]] = []
    found = measure_music_statistics(
        model, lambda: songs, range(len(songs)), lambda done, of, _: steps.append((done, of))
    )
    assert found is model.statistics
    assert steps == [(n, 6) for n in range(1, 7)]
    after = Fingerprinter(model, Specification.for_model(model, "influence"))(songs[2])
    for channel in ("P", "M"):
        X_ND = np.stack([one.vectors[channel] for one in before]).astype(np.float64)  # type: ignore[index]
        # Woodbury: the inverse root acts on the songs' span alone.
        moments, left_NN = np.linalg.eigh(X_ND @ X_ND.T)
        in_span = X_ND.T @ left_NN / np.sqrt(moments)
        x_D = X_ND[2]
        expected = x_D + in_span @ ((1 / np.sqrt(1 + moments / (2 * moments.mean())) - 1) * (in_span.T @ x_D))
        np.testing.assert_allclose(after.vectors[channel], expected / np.linalg.norm(expected), atol=1e-4)  # type: ignore[index]


def test_the_order_in_which_songs_come_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more songs than are sampled: neither which of them are, nor how their sum is rounded."""
    # By its name: in the package the function hides the module.
    monkeypatch.setattr(import_module("lumina_ray.fingerprint.music_statistics"), "_MAX_SONGS", 3)
    model = tiny_music_model()
    songs = _songs(model.codebook_size, 6)
    order = [4, 1, 5, 2, 0, 3]
    found = measure_music_statistics(model, lambda: songs, range(6))
    shuffled = measure_music_statistics(tiny_music_model(), lambda: [songs[place] for place in order], order)
    assert shuffled.sha256 == found.sha256
    assert {channel: values.shape[1] for channel, values in found.shared.items()} == {"P": 3, "M": 3}


def test_a_model_whose_statistics_changed_makes_no_fingerprints_of_the_old_ones() -> None:
    model = tiny_music_model()
    old = Specification.for_model(model, "influence")
    model.statistics = MusicStatistics(code_frequencies([np.zeros((4, 5), np.int64)], 4, model.codebook_size))
    with pytest.raises(SpecificationMismatch, match=r"music_statistics\.npz"):
        Fingerprinter(model, old)
    Fingerprinter(model, Specification.for_model(model, "influence"))


def test_directions_of_another_length_are_refused() -> None:
    model = tiny_music_model()
    model.statistics = MusicStatistics(model.statistics.frequencies_KC, {"P": np.ones((7, 1), np.float32)})
    with pytest.raises(ModelError, match=r"for fingerprints of 7 numbers, not 4096"):
        Fingerprinter(model, Specification.for_model(model, "influence"))


@pytest.mark.parametrize("name", ["nano", "nano-early", "audiocraft:nano"])
def test_bundled_models_know_what_their_music_has_in_common(name: str) -> None:
    model = open_model(name)
    frequencies_KC, shared = model.statistics.frequencies_KC, model.statistics.shared
    assert frequencies_KC.shape == (model.n_codebooks, model.codebook_size)
    assert not np.allclose(frequencies_KC, 1 / model.codebook_size)
    assert {channel: values.shape for channel, values in shared.items()} == {"P": (4096, 136), "M": (4096, 136)}


def test_only_fingerprints_that_depend_on_them_carry_their_hash() -> None:
    model = tiny_music_model()
    assert Specification.for_model(model, "influence").statistics_sha256 == UNKNOWN
    before = {kind: Specification.for_model(model, kind) for kind in ("influence", "head-gradient", "stats")}  # type: ignore[arg-type]
    model.statistics = MusicStatistics(code_frequencies([np.zeros((4, 5), np.int64)], 4, model.codebook_size))
    after = {kind: Specification.for_model(model, kind) for kind in before}  # type: ignore[arg-type]
    assert [kind for kind in before if before[kind] != after[kind]] == ["influence"]
