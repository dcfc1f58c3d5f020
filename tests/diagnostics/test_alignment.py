"""Alignment against scikit-learn, and against what is known of noise."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from lumina_ray.diagnostics import alignment as module
from lumina_ray.diagnostics.alignment import adjusted_r2, alignment, held_out_r2, largest_correlation, plain_r2
from lumina_ray.errors import UsageError
from tests.diagnostics.published import TABLE_3


def features_and_target(n: int, d: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x_ND = rng.standard_normal((n, d)) * rng.uniform(0.1, 30, d) + rng.uniform(-50, 50, d)
    return x_ND, ((x_ND - x_ND.mean(axis=0)) / x_ND.std(axis=0))[:, :3].sum(axis=1) + noise * rng.standard_normal(n)


@pytest.mark.parametrize(("n", "d"), [(60, 5), (40, 60)])
def test_ridge_is_that_of_scikit_learn(n: int, d: int) -> None:
    x_ND, y_N = features_and_target(n, d, 1.0)
    fold_N = np.random.default_rng(1).permutation(np.arange(n) % 5)
    error, total = 0.0, 0.0
    for fold in range(5):
        fit, held = fold_N != fold, fold_N == fold
        scaler = StandardScaler().fit(x_ND[fit])
        ridge = RidgeCV(module._RIDGES * fit.sum()).fit(scaler.transform(x_ND[fit]), y_N[fit])
        error += ((y_N[held] - ridge.predict(scaler.transform(x_ND[held]))) ** 2).sum()
        total += ((y_N[held] - y_N[fit].mean()) ** 2).sum()
    assert held_out_r2(y_N[:, None], x_ND, fold_N)[0] == pytest.approx(1 - error / total, abs=1e-8)


def test_plain_and_adjusted_r2() -> None:
    x_ND, y_N = features_and_target(60, 5, 1.0)
    expected = LinearRegression().fit(x_ND, y_N).score(x_ND, y_N)
    assert plain_r2(y_N, x_ND) == pytest.approx(expected, abs=1e-10)
    assert adjusted_r2(y_N, x_ND) == pytest.approx(1 - (1 - expected) * 59 / 54, abs=1e-10)


def test_r2_of_too_few_songs_is_refused() -> None:
    x_ND, y_N = features_and_target(194, 194, 1.0)
    with pytest.raises(UsageError, match=r"194 dimensions over 194 songs .* 970 songs are needed"):
        plain_r2(y_N, x_ND)
    assert plain_r2(*reversed(features_and_target(25, 5, 1.0))) <= 1
    with pytest.raises(UsageError, match="25 songs are needed"):
        plain_r2(*reversed(features_and_target(24, 5, 1.0)))


def test_noise_is_not_explained() -> None:
    rng = np.random.default_rng(3)
    x_ND, y_N = rng.standard_normal((104, 194)), rng.standard_normal(104)
    found = alignment(y_N, x_ND)
    # The largest of 194 correlations is large by chance, and its floor says so.
    assert found.correlation == pytest.approx(found.correlation_chance, abs=0.1)
    assert found.correlation_chance > 0.2
    assert found.held_out < 0.05
    assert found.held_out_chance < 0.05
    assert found.adjusted is None
    assert (found.songs, found.dimensions) == (104, 194)


def test_what_is_there_is_found() -> None:
    x_ND, y_N = features_and_target(300, 10, 0.3)
    found = alignment(y_N, x_ND)
    assert found.held_out > 0.9
    assert found.adjusted is not None
    assert found.adjusted > 0.9
    assert found.correlation == pytest.approx(
        np.max(np.abs([np.corrcoef(y_N, column)[0, 1] for column in x_ND.T])), abs=1e-12
    )
    assert alignment(y_N, x_ND) == found


def test_r2_is_at_least_the_square_of_any_correlation() -> None:
    """By identity; all published pairs obey it, but they would as well if the second number were R."""
    for seed in range(20):
        x_ND, y_N = features_and_target(50, 6, 5.0, seed)
        assert plain_r2(y_N, x_ND) >= largest_correlation(y_N, x_ND) ** 2 - 1e-12
    for pairs in TABLE_3.values():
        assert all(distributed >= largest**2 for largest, distributed in pairs)


def test_what_cannot_be_aligned_is_refused() -> None:
    x_ND, _ = features_and_target(9, 2, 1.0)
    with pytest.raises(UsageError, match="9 songs cannot be divided into 5 folds"):
        alignment(np.arange(9.0), x_ND)
    x_ND, _ = features_and_target(20, 2, 1.0)
    with pytest.raises(UsageError, match="same for all songs"):
        alignment(np.full(20, 0.1), x_ND)
