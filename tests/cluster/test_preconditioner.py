"""The second moment of a store on Ray, against the sum of all outer products."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.preconditioner import store_second_moment
from lumina_ray.errors import UsageError
from lumina_ray.fingerprint import Specification
from lumina_ray.methods import METHODS, Features, attribute, cache
from lumina_ray.store import Run, begin_run, read_store, store_schema

pytestmark = pytest.mark.usefixtures("ray_cluster")

D = 24


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Eleven parts, with two failed songs among them, of sketches with two layers' twelve blocks."""
    specification = Specification(
        "logra", "a" * 64, {"P": D, "M": D}, {"P": [14, 15], "M": [4, 5]}, [1.0] * 4, 422024, 0
    )
    begin_run(tmp_path, Run("b" * 64, 40, "tiny", specification, {}))
    rng = np.random.default_rng(0)
    rows: list[dict] = []
    for n in range(40):
        song = {"song_id": f"{n:02}", "status": "failed" if n in (3, 17) else "ok"}
        if song["status"] == "ok":
            vectors = {c: rng.normal(size=D) for c in ("P", "M")}
            norms = {c: float(np.linalg.norm(v)) for c, v in vectors.items()}
            song |= {c: (v / norms[c]).astype(np.float32) for c, v in vectors.items()}
            song |= {f"{c}_norm": norms[c] for c in vectors}
        rows.append(song)
    (tmp_path / "data").mkdir()
    schema = store_schema(specification)
    for i in range(11):
        pq.write_table(pa.Table.from_pylist(rows[i::11], schema=schema), tmp_path / "data" / f"{i}.parquet")
    (tmp_path / "_SUCCESS").touch()
    return tmp_path


def test_parts_add_up_to_the_catalog_and_precondition_it(store: Path) -> None:
    catalog = Features.of_stores([read_store(store)], "M")
    assert catalog.blocks == 12
    moment = store_second_moment(store, "M")
    assert moment.shape == (12, 2, 2)
    raw_ND = catalog.raw(0)
    assert len(raw_ND) == 38
    for b in range(12):
        expected = sum(np.outer(row, row) for row in raw_ND[:, 2 * b : 2 * b + 2])
        np.testing.assert_allclose(moment[b], expected, rtol=1e-10)
    queries = Features(catalog.vectors_CnD[:, :3], catalog.norms_Cn[:, :3], 12)
    np.testing.assert_allclose(
        attribute(cache(METHODS["logra"], catalog, [moment]), queries),
        attribute(cache(METHODS["logra"], catalog), queries),
        rtol=1e-6,
    )


def test_a_store_without_data_is_refused(store: Path) -> None:
    for part in (store / "data").iterdir():
        part.unlink()
    with pytest.raises(UsageError, match="no data of channel P"):
        store_second_moment(store, "P")
