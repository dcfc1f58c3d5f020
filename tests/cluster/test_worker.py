"""A worker of a job whose numbers cannot be believed."""

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.worker import JobWorker
from lumina_ray.errors import NumericsError
from lumina_ray.store import check_not_condemned


def unbelievable(rows: pa.Table) -> pa.Table:
    raise NumericsError("song one: computed twice differs")


def test_a_store_that_cannot_be_marked_does_not_hide_what_is_wrong(ray_cluster: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NumericsError, match=r"cannot be marked as unusable \(.*\): delete it"):
        JobWorker("job", tmp_path / "file" / "store", lambda: unbelievable)(pa.table({}))
    with pytest.raises(NumericsError, match=r"differs$"):
        JobWorker("job", tmp_path, lambda: unbelievable)(pa.table({}))
    with pytest.raises(NumericsError, match=r"computed twice differs.* delete it"):
        check_not_condemned(tmp_path)
