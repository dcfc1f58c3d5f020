"""Reports of several snapshots of one living catalog."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.attribution import attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.errors import StatementError, UsageError
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.report import to_json
from lumina_ray.statement.files import make_files
from tests.calibration.synthetic import demo_stores, query
from tests.statement.making import changed


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `index`, whose two snapshots have other controls, and `reports`, one of each snapshot."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "reports").mkdir()
    store, controls, worlds = demo_stores(folder)
    rng = np.random.default_rng(0)
    for number in (1, 2):
        write_calibration(calibrate_store(store, controls), store.path)
        snapshot = load_snapshot(build_index(store, folder / "index"))
        asked = query({c: worlds[c].music(1)[0] for c in worlds})
        report = attribute(dataclasses.replace(asked, audio_sha256=f"{number:064x}"), snapshot)
        (folder / "reports" / f"{number}.json").write_bytes(to_json(report).encode())
        _, controls, _ = demo_stores(folder / f"again {rng.integers(9)}", seed=number)
    return folder


def belong_to(index: Path, *catalogs: str | None) -> None:
    """Write into the records of an index's snapshots which living catalog they are of."""
    for folder, catalog in zip(sorted(index.glob("v*")), catalogs, strict=True):
        record = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(record | {"catalog": catalog, "generation": 1}))


def test_snapshots_of_one_living_catalog_are_added_up(two: Path) -> None:
    reports, index = str(two / "reports"), two / "index"
    with pytest.raises(StatementError, match=r"their calibration differs.*--index INDEX allows"):
        make_files([reports], None, "owner", "2026")
    with pytest.raises(StatementError, match="not all of one living catalog"):
        make_files([reports], None, "owner", "2026", index=index)
    belong_to(index, "one", "other")
    with pytest.raises(StatementError, match=r"not all of one living catalog \(v0001, v0002\)"):
        make_files([reports], None, "owner", "2026", index=index)
    belong_to(index, "one", "one")
    statement = make_files([reports], None, "owner", "2026", index=index).statement
    assert statement.basis.catalog == "one"
    assert [s.index_version for s in statement.basis.snapshots] == ["v0001", "v0002"]
    assert [s.reports for s in statement.basis.snapshots] == [1, 1]


def test_a_report_of_another_index_is_named(two: Path, tmp_path: Path) -> None:
    belong_to(two / "index", "one", "one")
    foreign = changed((two / "reports" / "1.json").read_bytes(), lambda v: v["basis"].update(index_key="f" * 64))
    (tmp_path / "foreign.json").write_bytes(foreign)
    with pytest.raises(StatementError, match=r"foreign\.json: was made from snapshot v0001"):
        make_files([str(tmp_path)], None, "owner", "2026", index=two / "index")
    with pytest.raises(UsageError, match="is no index folder"):
        make_files([str(tmp_path)], None, "owner", "2026", index=tmp_path)
