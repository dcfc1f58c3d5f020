import numpy as np
import pytest

from lumina_ray.calibration import CatalogNoise, ChannelCalibration, calibrate, joint_scores
from lumina_ray.calibration.vectors import catalog_centre
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from tests.calibration.synthetic import World, unit


@pytest.fixture(scope="module")
def world() -> World:
    return World(np.random.default_rng(1), 96)


@pytest.fixture(scope="module")
def catalog(world: World) -> np.ndarray:
    return world.music(130)


@pytest.fixture(scope="module")
def controls(world: World) -> np.ndarray:
    return world.music(50)


@pytest.fixture(scope="module")
def measured(catalog: np.ndarray, controls: np.ndarray) -> CatalogNoise:
    return calibrate({"P": catalog}, {"P": controls})


@pytest.fixture(scope="module")
def noise(measured: CatalogNoise) -> ChannelCalibration:
    return measured.channels["P"]


def test_mean_and_std_are_of_all_pairs(noise, catalog, controls):
    S = controls.astype(np.float64) @ catalog.astype(np.float64).T
    assert (noise.n_songs, noise.n_controls, noise.dims) == (130, 50, 96)
    assert noise.mean == pytest.approx(S.mean(), abs=1e-12)
    assert noise.std == pytest.approx(S.std(), abs=1e-12)
    assert noise.control_maxima_similarity == pytest.approx(sorted(S.max(axis=1), reverse=True))
    assert noise.z(np.array([noise.mean, noise.mean + 2 * noise.std])) == pytest.approx([0, 2])
    assert noise.exceedance["1"] == pytest.approx((noise.z(S) >= 1).mean())


def test_a_query_unlike_all_controls_shows_in_its_bulk(noise, world, catalog):
    centre = catalog_centre(catalog)
    ordinary = np.array([noise.bulk_p(float(m)) for m in world.music(200) @ centre])
    generic = np.array([noise.bulk_p(float(m)) for m in world.music(50, common=1.5) @ centre])
    assert (ordinary <= 2 / 51).mean() < 0.12
    assert (generic <= 2 / 51).mean() > 0.9


def test_same_input_same_bits(noise, catalog, controls):
    again = calibrate({"P": catalog}, {"P": controls}).channels["P"]
    assert again == noise
    assert ChannelCalibration.model_validate_json(noise.model_dump_json()) == noise


def test_gates_are_those_of_each_channel_and_of_all_together(catalog, controls):
    world = World(np.random.default_rng(2), 40)
    other, other_controls = world.music(130), world.music(50)
    both = calibrate({"P": catalog, "M": other}, {"P": controls, "M": other_controls})
    assert set(both.gates) == {"P", "M", "PM"}
    # Scores of two channels that have nothing to do with each other even out.
    assert both.gates["PM"].critical() < min(both.gates[c].critical() for c in "PM")
    np.testing.assert_array_equal(joint_scores([np.array([1.0, 2.0]), np.array([3.0, -2.0])]), [2, 0])


def test_too_few_controls(catalog, controls):
    with pytest.raises(UsageError, match=r"19 control tracks are too few: at least 20 .*50 are recommended"):
        calibrate({"P": catalog}, {"P": controls[:19]})


def test_not_finite(catalog, controls):
    controls = controls.copy()
    controls[7, 0] = np.nan
    with pytest.raises(StoreError, match="controls: row 7 is not a finite unit vector"):
        calibrate({"P": catalog}, {"P": controls})


def test_other_dimensions(catalog, controls):
    with pytest.raises(SpecificationMismatch, match="96 dimensions and control vectors 95"):
        calibrate({"P": catalog}, {"P": unit(controls[:, 1:]).astype(np.float32)})


def test_fingerprints_that_are_all_alike_are_refused():
    one = unit(np.ones((30, 8))).astype(np.float32)
    with pytest.raises(StoreError, match="cannot tell songs apart"):
        calibrate({"P": one}, {"P": one})
