"""Agreement of diagnostics with retraining, on matrices whose agreement is laid down."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.diagnostics import CONTROLS, RANDOM, Matrix, planned, rank_agreement
from lumina_ray.diagnostics.reliability import Diagnostics
from lumina_ray.truth.bank import BASE
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.recipe import SMALL
from tests.truth.small_bank import small_bank

KINDS = ("tokens", "stats", "jl", "influence")


def matrices(lds: np.ndarray, kappa: np.ndarray) -> list[Matrix]:
    return [
        Matrix(
            f"method {i}",
            KINDS[i % 4],
            "A",
            "P",
            "excerpt",
            0.1,
            1 - one,
            0.5,
            Diagnostics(k, 0.3, 0.3, 0.3, 0.3, 0.3),
            Estimate(one, one, one),
        )
        for i, (one, k) in enumerate(zip(lds.tolist(), kappa.tolist(), strict=True))
    ]


def test_low_is_good_is_1_and_constant_is_0() -> None:
    lds = np.random.default_rng(0).uniform(0, 1, 20)
    found = rank_agreement(matrices(lds, -(lds**3)), np.tile(lds, (200, 1)))
    assert (found["kappa"].value, found["kappa"].low, found["kappa"].high) == (pytest.approx(1), 1.0, 1.0)
    assert found[CONTROLS].value == pytest.approx(1)
    assert found["r1"] == Estimate(0.0, 0.0, 0.0)
    assert found[RANDOM].low < 0 < found[RANDOM].high


def test_it_is_spearmans_and_noise_of_lds_widens_it() -> None:
    rng = np.random.default_rng(1)
    lds, kappa = rng.uniform(0, 1, 20), rng.uniform(0, 1, 20)
    exact = rank_agreement(matrices(lds, kappa), np.tile(lds, (300, 1)))["kappa"]
    assert exact.value == pytest.approx(spearmanr(kappa, -lds).statistic)
    assert exact.low < exact.value < exact.high
    strong = np.sort(rng.uniform(0, 1, 20))
    sure, unsure = (
        rank_agreement(matrices(strong, -strong), strong + noise * rng.standard_normal((300, 20)))["kappa"]
        for noise in (0.01, 1.0)
    )
    assert sure.low > 0.9
    assert unsure.low < 0.5


def test_kinds_without_a_backward_pass_are_made_under_every_model() -> None:
    bank = small_bank(SMALL, models={name: {} for name in ("A", "A-early", "B", "reference", BASE)})
    assert planned(bank, ["stats", "tokens"]) == [("A", "stats"), ("A", "tokens")]
    assert [weights for weights, _ in planned(bank, ["influence"])] == ["A", "A-early", "reference", BASE, "untrained"]
