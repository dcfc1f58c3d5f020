import numpy as np
import pytest

from lumina_ray.calibration import catalog_centre, store_sha256, usable_songs
from lumina_ray.calibration.vectors import blocks, check_unit_rows, take
from lumina_ray.errors import StoreError
from tests.calibration.synthetic import DIMS, World, write_store


def test_the_centre_of_a_catalog_is_its_mean_vector():
    X = World(np.random.default_rng(0), 32).music(9000)
    np.testing.assert_allclose(catalog_centre(X), X.astype(np.float64).mean(axis=0), atol=1e-12)


def test_blocks_cover_everything_once():
    assert [list(range(10))[b] for b in blocks(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, 2.0])
def test_rows_that_are_no_unit_vectors_are_named(bad):
    X = World(np.random.default_rng(0), 16).music(5)
    X[3] *= bad
    with np.errstate(invalid="ignore"), pytest.raises(StoreError, match="catalog: row 3"):
        check_unit_rows(X, "catalog")


def test_zero_and_non_finite_songs_are_left_out_by_name(tmp_path):
    vectors = {c: World(np.random.default_rng(0), d).music(6) for c, d in DIMS.items()}
    vectors["P"][1] = 0
    vectors["M"][4, 2] = np.nan
    rows, excluded = usable_songs(write_store(tmp_path / "s", vectors))
    assert rows.tolist() == [0, 2, 3, 5]
    assert excluded == {"song-0001": "the P vector is zero", "song-0004": "the M vector is not finite"}


def test_rows_are_taken_to_where_the_matrix_lies(tmp_path):
    X = World(np.random.default_rng(0), 16).music(9000)
    on_disk = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    on_disk[:] = X
    some = np.delete(np.arange(9000), [0, 4321])
    assert take(on_disk, np.arange(9000)) is on_disk
    assert take(X, np.arange(9000)) is X
    for matrix, kind in ((X, np.ndarray), (on_disk, np.memmap)):
        taken = take(matrix, some)
        assert type(taken) is kind
        np.testing.assert_array_equal(taken, X[some])


def test_duplicate_ids_are_refused(tmp_path):
    vectors = {c: World(np.random.default_rng(0), d).music(3) for c, d in DIMS.items()}
    store = write_store(tmp_path / "s", vectors, ids=["a", "b", "a"])
    with pytest.raises(StoreError, match="more than once: a"):
        usable_songs(store)


def test_store_hash_sees_vectors_and_codes_but_not_titles(tmp_path):
    vectors = {c: World(np.random.default_rng(0), d).music(3) for c, d in DIMS.items()}
    base = store_sha256(write_store(tmp_path / "a", vectors))
    assert store_sha256(write_store(tmp_path / "b", vectors, title="Other {}")) == base
    assert store_sha256(write_store(tmp_path / "c", vectors, codes_sha256=["x", "y", "z"])) != base
    vectors["M"] = vectors["M"][::-1].copy()
    assert store_sha256(write_store(tmp_path / "d", vectors)) != base
