"""Indexes whose pieces were built on Ray are those that one process builds."""

from pathlib import Path

import numpy as np
import pytest

from cluster.index import build_index_on_ray, each_on_ray
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.errors import ClusterError
from lumina_ray.index import IndexConfig, build_index, load_snapshot, pieces
from tests.calibration.synthetic import DIMS, World, write_store

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(
    ("config", "n_shards"), [(IndexConfig("IVF8,PQ16"), 1), (IndexConfig("IVF8,SQ8", memory_bytes=80_000), 2)]
)
def test_ray_builds_the_index_that_one_process_builds(
    config: IndexConfig, n_shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    store = write_store(tmp_path / "catalog", {c: w.music(600) for c, w in worlds.items()})
    controls = write_store(tmp_path / "controls", {c: w.music(20) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(store, controls), store.path)
    monkeypatch.setattr(pieces, "_PIECE_BYTES", 4 * 96 * 110)
    here = load_snapshot(build_index(store, tmp_path / "index", config))
    on_ray = load_snapshot(build_index_on_ray(store.path, tmp_path / "index", config))
    assert (here.version, on_ray.version) == ("v0001", "v0002")
    assert len(on_ray.record.indexes["P"].shards) == n_shards
    assert on_ray.record.indexes == here.record.indexes
    assert on_ray.record.files == here.record.files
    for channel, world in worlds.items():
        queries_QD = world.music(20)
        answers = zip(on_ray.search(channel, queries_QD, 30), here.search(channel, queries_QD, 30), strict=True)
        for found, expected in answers:
            np.testing.assert_array_equal(found, expected)


def test_a_part_that_cannot_be_made_is_an_error_of_the_cluster_in_one_line() -> None:
    with pytest.raises(ClusterError, match=r"could not be built on the cluster: ZeroDivisionError"):
        each_on_ray(lambda item: 1 // item, [1, 0])
