"""Scores between stores on disk, by a method's name."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lumina_ray.cli.main import app
from lumina_ray.errors import LuminaError
from lumina_ray.methods.table import score_table
from lumina_ray.store import Store
from tests.calibration.synthetic import DIMS, specification, unit, write_store


def store(folder: Path, n: int, seed: int, prefix: str, weights: str = "a") -> Store:
    rng = np.random.default_rng(seed)
    vectors = {c: unit(rng.standard_normal((n, D))).astype(np.float32) for c, D in DIMS.items()}
    return write_store(folder, vectors, prefix, specification(weights * 64))


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    return store(tmp_path / "catalog", 12, 0, "song"), store(tmp_path / "queries", 3, 1, "query")


def test_the_best_songs_of_every_query_in_order(stores: tuple[Store, Store]) -> None:
    catalog, queries = stores
    rows = score_table("influence", [catalog], [queries], top=4).to_pylist()
    assert [(r["query_id"], r["channel"], r["rank"]) for r in rows] == [
        (query, channel, rank) for query in sorted(queries.song_ids) for channel in "PM" for rank in range(1, 5)
    ]
    for row in rows:
        expected = queries.vectors(row["channel"])[queries.song_ids.index(row["query_id"])].astype(float)
        similarity = catalog.vectors(row["channel"]).astype(float) @ expected
        assert row["score"] == pytest.approx(np.sort(similarity)[-row["rank"]], abs=1e-6)
        assert catalog.song_ids[int(np.argsort(-similarity)[row["rank"] - 1])] == row["song_id"]


def test_a_catalog_smaller_than_what_is_asked_for_is_given_whole(stores: tuple[Store, Store]) -> None:
    assert len(score_table("influence", *([one] for one in stores), top=99)) == 3 * 2 * 12


def test_what_does_not_fit_together_is_refused(stores: tuple[Store, Store], tmp_path: Path) -> None:
    catalog, queries = stores
    other = store(tmp_path / "other", 3, 2, "query", weights="b")
    for arguments, message in (
        (("nonesuch", [catalog], [queries]), "no method 'nonesuch'; there are companion"),
        (("stats", [catalog], [queries]), r"works on stats fingerprints, .*catalog holds influence: run"),
        (("influence", [catalog], [other]), "other was not fingerprinted as"),
        (("influence", [catalog, catalog], [queries]), "2 catalog stores and 1 of queries"),
        (("influence", [catalog], [queries], [1.0, 2.0]), "2 learning rates for 1 checkpoints"),
    ):
        with pytest.raises(LuminaError, match=message):
            score_table(*arguments)  # type: ignore[arg-type]


def test_the_command_prints_json(stores: tuple[Store, Store], tmp_path: Path) -> None:
    catalog, queries = stores
    command = ["scores", "influence", "--catalog", catalog.path, "--queries", queries.path, "--top", "2", "--json"]
    result = CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path / "scores.parquet")])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["scores"]) == 3 * 2 * 2
    assert (tmp_path / "scores.parquet").is_file()
