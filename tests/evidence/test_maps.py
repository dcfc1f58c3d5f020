"""Learned maps against scikit-learn and against what they must make of a covariance."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lumina_ray.evidence import maps as module
from lumina_ray.evidence.composition import PARTS
from lumina_ray.evidence.maps import (
    Map,
    learn_discriminants,
    learn_maps,
    learn_whitening,
    save_maps,
    shipped_maps,
    unit,
)
from lumina_ray.evidence.sound import PARTS as SOUND_PARTS


def clusters(seed: int = 0) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(12), 30)
    mixing = rng.normal(size=(9, 9))
    return rng.normal(size=(12, 9))[classes] * 2 + rng.normal(size=(360, 9)) @ mixing, classes.tolist()


def within(vectors: np.ndarray, classes: list[int]) -> np.ndarray:
    of = np.array(classes)
    return sum(np.cov(vectors[of == c].T, bias=True) * (of == c).mean() for c in set(classes))


def test_whitening_makes_what_differs_within_classes_white() -> None:
    vectors, classes = clusters()
    learned = learn_whitening(vectors, classes, shrinkage=0)
    mapped = np.array([learned(row) for row in vectors])
    np.testing.assert_allclose(within(mapped, classes), np.eye(9), atol=1e-4)
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-4)


def test_whitening_with_all_shrunk_is_a_multiple_of_the_identity() -> None:
    vectors, classes = clusters()
    matrix = learn_whitening(vectors, classes, shrinkage=1).matrix_Dd
    np.testing.assert_allclose(matrix, np.eye(9) / np.sqrt(np.trace(within(vectors, classes)) / 9), atol=1e-6)


def test_discriminants_by_scikit_learn() -> None:
    vectors, classes = clusters()
    ours = learn_discriminants(vectors, classes, shrinkage=0, dims=4)
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=4).fit(vectors, classes)
    np.testing.assert_allclose(subspace_angles(ours.matrix_Dd, theirs.scalings_[:, :4]), 0, atol=1e-3)
    mapped = np.array([ours(row) for row in vectors])
    np.testing.assert_allclose(within(mapped, classes), np.eye(4), atol=1e-3)


def test_a_map_is_affine() -> None:
    rng = np.random.default_rng(1)
    centre, matrix, vector = rng.normal(size=5), rng.normal(size=(5, 3)), rng.normal(size=5)
    np.testing.assert_allclose(Map(centre, matrix)(vector), (vector - centre) @ matrix)


def test_shipped_maps_fit_what_they_map() -> None:
    maps = shipped_maps()
    assert {name: one.matrix_Dd.shape for name, one in maps.composition.items()} == {
        n: (D, D) for n, D in PARTS.items()
    }
    assert maps.sound.matrix_Dd.shape == (sum(SOUND_PARTS.values()), module.SOUND_DIMS)


def test_maps_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    parts = {name: rng.normal(size=(60, D)) for name, D in PARTS.items()}
    classes = list(range(20)) * 3
    learned = learn_maps(parts, rng.normal(size=(60, sum(SOUND_PARTS.values()))), classes, classes)
    save_maps(learned, tmp_path / "maps.npz")
    monkeypatch.setattr(module, "files", lambda _package: tmp_path)
    read = shipped_maps.__wrapped__()
    np.testing.assert_array_equal(read.sound.matrix_Dd, learned.sound.matrix_Dd)
    for name in PARTS:
        np.testing.assert_array_equal(read.composition[name].matrix_Dd, learned.composition[name].matrix_Dd)


def test_zeros_have_no_direction() -> None:
    assert not unit(np.zeros(3)).any()
    assert np.linalg.norm(unit(np.array([3.0, 4.0]))) == pytest.approx(1)
