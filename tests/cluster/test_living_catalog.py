"""A living catalog on a real Ray: new songs alone are computed, to the bits of one process that makes them all."""

from pathlib import Path

import pytest

from cluster.catalog import CatalogSettings, add_songs
from lumina_ray.errors import UsageError
from lumina_ray.store import open_store
from tests.cluster.catalog import write_manifest, write_tone
from tests.cluster.reference import without_ray

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_songs_come_and_change_and_are_what_one_process_makes_of_them_all(tmp_path: Path, tiny_model_dir: Path) -> None:
    for number in range(4):
        write_tone(tmp_path / f"{number}.wav", 3, seed=number)

    def manifest(name: str, songs: dict[str, int]) -> Path:
        return write_manifest(tmp_path / f"{name}.parquet", [*songs], [f"{file}.wav" for file in songs.values()])

    catalog = tmp_path / "catalog"
    wanted = CatalogSettings(model=str(tiny_model_dir), kind="influence")
    first, begun = add_songs(catalog, manifest("first", {"a": 0, "b": 1}), wanted, workers=1)
    assert (first.number, begun.computed) == (1, 2)
    # The model and the fingerprint are the catalog's own now.
    second, replaced = add_songs(catalog, manifest("second", {"b": 3}), CatalogSettings(), replacing=True, workers=1)
    assert (second.number, replaced.computed) == (2, 1)
    with pytest.raises(UsageError, match="already, such as a"):
        add_songs(catalog, manifest("again", {"a": 0}), CatalogSettings())
    with pytest.raises(UsageError, match="fingerprinted with kind influence, not jl"):
        add_songs(catalog, manifest("other", {"c": 2}), CatalogSettings(kind="jl"))

    at_once = without_ray(manifest("all", {"a": 0, "b": 3}), tiny_model_dir, "influence")
    living = open_store(catalog)
    assert living.song_ids == at_once["song_id"].to_pylist()
    assert living.songs.select(["codes", "P", "M"]).equals(at_once.select(["codes", "P", "M"]))
