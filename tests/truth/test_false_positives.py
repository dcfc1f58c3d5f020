"""False alarms of every policy on noise, where what to expect is known."""

import numpy as np

from lumina_ray.truth.false_positives import false_positives
from lumina_ray.vocabulary import CHANNELS


def unit_rows(rng: np.random.Generator, n: int, D: int) -> np.ndarray:
    vectors = rng.standard_normal((n, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_on_noise_each_policy_errs_as_its_rule_says() -> None:
    rng = np.random.default_rng(0)
    catalog, controls = ({c: unit_rows(rng, n, 64) for c in CHANNELS} for n in (300, 80))
    found = false_positives(catalog, controls, sizes=(300, 1000))
    for one in [one for of_channel in found.values() for one in of_channel]:
        match one.policy:
            case "v8":  # beyond 1 σ of a normal distribution: 15.9 %
                np.testing.assert_allclose(one.songs.value, 0.159 * one.n_songs, rtol=0.06)
                assert one.any_song.value == 1
            case "v7":  # beyond 1.96 σ on one side: 2.5 %
                np.testing.assert_allclose(one.songs.value, 0.025 * one.n_songs, rtol=0.2)
            case "calibrated":  # any song at all: at most 5 %, give or take what 400 queries can show
                assert one.any_song.value <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert [(one.n_songs, one.simulated) for one in found["M"][::3]] == [(300, False), (300, True), (1000, True)]


def test_what_is_simulated_errs_as_what_it_is_drawn_from() -> None:
    rng = np.random.default_rng(1)
    # A common direction and an uneven spectrum, as real fingerprints have.
    scales = np.geomspace(1, 0.05, 40)
    catalog, controls = (unit_rows(rng, n, 40) * scales + 0.1 for n in (300, 80))
    catalog, controls = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (catalog, controls))
    real, simulated = np.split(np.array(false_positives({"P": catalog}, {"P": controls}, sizes=(300,))["P"]), 2)
    for one, other in zip(real, simulated, strict=True):
        np.testing.assert_allclose(one.songs.value, other.songs.value, rtol=0.25, atol=0.3)
