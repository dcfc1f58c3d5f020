"""The guard of a store: one run, recognised, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError
from lumina_ray.fingerprint import Specification
from lumina_ray.store import Run, begin_run, check_not_condemned, condemn, manifest_sha256, read_run
from lumina_ray.store.run import RUN_FILE
from tests.store.killed import killed_before_rename


@pytest.fixture
def run() -> Run:
    specification = Specification(
        "stats", "a" * 64, {"P": 72, "M": 72}, {"P": [14, 15], "M": [4, 5]}, [0.4, 1.2, 1.3, 1.4], 0, 0
    )
    return Run("b" * 64, 10, "nano", specification, {"device": "cpu", "torch": "2.11.0"})


def test_first_run_claims_and_the_same_run_resumes(tmp_path: Path, run: Run) -> None:
    assert begin_run(tmp_path / "store", run) is False
    assert begin_run(tmp_path / "store", run) is True
    assert read_run(tmp_path / "store") == run


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"manifest_sha256": "c" * 64}, ("bbbb", "cccc")),
        ({"environment": {"device": "H100", "torch": "2.11.0"}}, ("cpu", "H100")),
        ({"software_version": "9.9"}, ("0.2.0", "9.9")),
    ],
)
def test_another_run_is_refused_with_both_values(tmp_path: Path, run: Run, change: dict, shown: tuple) -> None:
    begin_run(tmp_path, run)
    with pytest.raises(SpecificationMismatch) as caught:
        begin_run(tmp_path, replace(run, **change))
    assert all(value in str(caught.value) for value in shown)


def test_another_specification_is_refused(tmp_path: Path, run: Run) -> None:
    begin_run(tmp_path, run)
    other = replace(run, specification=replace(run.specification, weights_sha256="d" * 64))
    with pytest.raises(SpecificationMismatch, match="specification"):
        begin_run(tmp_path, other)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, run: Run) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(StoreError, match="is no fingerprint store"):
        begin_run(tmp_path, run)
    assert not (tmp_path / RUN_FILE).exists()


def test_a_run_that_was_killed_as_it_began_is_begun_again(tmp_path: Path, run: Run) -> None:
    with killed_before_rename(1):
        begin_run(tmp_path, run)
    assert [path.name for path in tmp_path.iterdir()] != [RUN_FILE]
    assert begin_run(tmp_path, run) is False
    assert begin_run(tmp_path, run) is True


def test_damaged_and_missing_run_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="lumina fingerprint"):
        read_run(tmp_path)
    (tmp_path / RUN_FILE).write_text('{"manifest_sha256": ')
    with pytest.raises(StoreError, match="damaged"):
        read_run(tmp_path)


def test_manifest_identity_is_ids_and_paths_in_order() -> None:
    table = pa.table({"song_id": ["a", "b"], "path": ["/1", "/2"], "title": ["x", "y"]})
    assert manifest_sha256(table) == manifest_sha256(table.drop_columns("title"))
    assert manifest_sha256(table) != manifest_sha256(table.take([1, 0]))
    # A separator inside a name must not make two manifests one.
    one = pa.table({"song_id": ["a', 'b"], "path": ["c"]})
    other = pa.table({"song_id": ["a"], "path": ["b', 'c"]})
    assert manifest_sha256(one) != manifest_sha256(other)


def test_a_condemned_store_says_why_and_for_ever(tmp_path: Path) -> None:
    check_not_condemned(tmp_path)
    condemn(tmp_path, "song 7: computed twice differs")
    for _ in range(2):
        with pytest.raises(NumericsError, match=r"song 7: computed twice differs.*delete it"):
            check_not_condemned(tmp_path)
